"""Show operators in their browsers what the API tells programs.

One module per page. Each exports `routes(...)`, a list of routes as those of the API, only that they
are marked `page=True` and answer with what `rendering.Rendering` makes of a template. No page knows
more than the API: both ask the store by the same functions.
"""

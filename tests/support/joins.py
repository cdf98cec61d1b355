"""Tell which tables of a statement are joined to each other by one column: in each block, across them, by conditions.

Two places where a table stands hang together if a condition that must hold says that their columns are equal, or equal
to the same value; also by way of a subquery or a common table expression that hands the column on. What is said
beneath OR or NOT joins nothing, but a subquery there may be joined by what it says itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlglot import exp

Node = int | str
"""A place where a table stands, or a value that a column is compared with."""


@dataclass
class Block:
    """Be what the names in one SELECT, UPDATE, DELETE or INSERT mean."""

    outer: Block | None = None
    sources: dict[str, dict[str, Node]] = field(default_factory=dict)
    """By alias: what each column that hands the key on stands for."""
    common: dict[str, dict[str, Node]] = field(default_factory=dict)
    """By name of a common table expression."""

    def resolve(self, column: exp.Column) -> Node | None:
        """Find what a column stands for, here or further out."""
        if column.table:
            if column.table in self.sources:
                return self.sources[column.table].get(column.name)
        else:
            nodes = {found[column.name] for found in self.sources.values() if column.name in found}
            if nodes:
                # it is ambiguous unless these were joined by USING
                return nodes.pop() if len(nodes) == 1 else None
        return self.outer.resolve(column) if self.outer else None

    def named(self, name: str) -> dict[str, Node] | None:
        """Find what a common table expression hands on."""
        if name in self.common:
            return self.common[name]
        return self.outer.named(name) if self.outer else None


class Joins:
    """Walk through a statement once."""

    def __init__(self, statement: exp.Expr, tables: frozenset[str], key: str) -> None:
        self._tables, self._key = tables, key
        self._parents: dict[Node, Node] = {}
        self._instances: list[int] = []
        self._values: set[str] = set()
        self._walked: set[int] = set()
        """Queries within conditions that were looked at for what they hand on."""
        self.problems: list[str] = []
        self.defined = {common.alias for common in statement.find_all(exp.CTE)}
        """Names that are no tables."""
        self._walk(statement, None)

    @property
    def parts(self) -> int:
        """Count the groups of tables that no condition joins to each other."""
        return len({self._root(instance) for instance in self._instances})

    # --- what hangs together ------------------------------------------------------------------------------

    def _root(self, node: Node) -> Node:
        while (parent := self._parents.get(node, node)) != node:
            node = parent
        return node

    def _join(self, one: Node | None, other: Node | None) -> None:
        if one is not None and other is not None:
            self._parents[self._root(one)] = self._root(other)

    def _is_one_value(self, node: Node) -> bool:
        return self._root(node) in {self._root(value) for value in self._values}

    # --- blocks ---------------------------------------------------------------------------------------------

    def _walk(self, query: exp.Expr, outer: Block | None) -> dict[str, Node]:
        """Take in a query; gives the columns of its rows that hand a key on."""
        block = Block(outer)
        begun = query.args.get("with_")
        for common in begun.expressions if begun is not None else ():
            # one that names itself says nothing of what it hands on
            block.common[common.alias] = {}
            block.common[common.alias] = _renamed(self._walk(common.this, block), common)
        if isinstance(query, exp.Subquery):
            return self._walk(query.this, block)
        if isinstance(query, exp.SetOperation):
            return self._both(query, block)
        for source in _sources(query):
            self._source(source, block)
        for condition in _conditions(query):
            for one in _parts(condition):
                self._condition(one, block)
        for join in query.args.get("joins") or ():
            self._using(join, block)
        for nested in _nested(query):
            if id(nested) not in self._walked:
                self._walk(nested, block)
        handed = self._handed(query, block)
        if isinstance(query, exp.Insert):
            self._insert(query, block)
        if query.args.get("locks"):
            self._locked(block)
        return handed

    def _both(self, query: exp.SetOperation, block: Block) -> dict[str, Node]:
        one, other = self._walk(query.left, block), self._walk(query.right, block)
        names = list(zip(query.left.named_selects, query.right.named_selects, strict=False))
        for left, right in names:
            self._join(one.get(left), other.get(right))
        return one

    def _source(self, source: exp.Expr, block: Block) -> None:
        if isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier):
            handed = block.named(source.name)
            if handed is None and source.name in self._tables:
                self._instances.append(len(self._instances))
                handed = {self._key: self._instances[-1]}
            block.sources[source.alias_or_name] = handed or {}
        elif isinstance(source, exp.Subquery | exp.Lateral):
            inner = source.this if isinstance(source, exp.Lateral) else source
            block.sources[source.alias_or_name] = _renamed(self._walk(inner, block), source)
        else:
            block.sources[source.alias_or_name] = {}

    def _insert(self, insert: exp.Insert, block: Block) -> None:
        target, query = insert.find(exp.Table), insert.expression
        if target is None or target.name not in self._tables or not isinstance(query, exp.Query):
            return
        columns = insert.this.expressions if isinstance(insert.this, exp.Schema) else []
        place = next((place for place, column in enumerate(columns) if column.name == self._key), None)
        before = len(self._instances)
        handed = self._walk(query, block)
        if place is not None and len(self._instances) > before and place < len(query.selects):
            self._join(block.sources[target.alias_or_name][self._key], handed.get(query.selects[place].alias_or_name))

    def _handed(self, query: exp.Expr, block: Block) -> dict[str, Node]:
        given = query.selects if isinstance(query, exp.Select) else _returned(query)
        handed = {}
        for one in given:
            if isinstance(one, exp.Star) or (isinstance(one, exp.Column) and isinstance(one.this, exp.Star)):
                for source in block.sources.values():
                    handed.update(source)
            node = self._value(one.unalias(), block)
            if isinstance(node, int):
                handed[one.alias_or_name] = node
        return handed

    def _locked(self, block: Block) -> None:
        nodes = [node for source in block.sources.values() for node in source.values()]
        if not all(self._is_one_value(node) for node in nodes):
            self.problems.append("locks rows of calls on more than one node")

    # --- conditions -----------------------------------------------------------------------------------------

    def _using(self, join: exp.Join, block: Block) -> None:
        if join.method.upper() == "NATURAL":
            self.problems.append("joins by whatever columns have the same name")
        if self._key in {column.name for column in join.args.get("using") or ()}:
            nodes = [source[self._key] for source in block.sources.values() if self._key in source]
            for node in nodes[1:]:
                self._join(nodes[0], node)

    def _condition(self, one: exp.Expr, block: Block) -> None:
        if isinstance(one, exp.EQ):
            for left, right in zip(_members(one.left), _members(one.right), strict=False):
                self._join(self._value(left, block), self._value(right, block))
        elif isinstance(one, exp.In) and one.args.get("query") is not None:
            query = one.args["query"].unnest()
            self._walked |= {id(query), id(one.args["query"])}
            handed = self._walk(query, block)
            for left, given in zip(_members(one.this), query.selects, strict=False):
                self._join(self._value(left, block), handed.get(given.alias_or_name))

    def _value(self, written: exp.Expr, block: Block) -> Node | None:
        while isinstance(written, exp.Paren | exp.Cast):
            written = written.this
        if isinstance(written, exp.Column):
            return block.resolve(written)
        if isinstance(written, exp.Parameter | exp.Placeholder | exp.Literal):
            self._values.add(written.sql())
            return written.sql()
        return None


def _sources(query: exp.Expr) -> Iterator[exp.Expr]:
    if isinstance(query, exp.Insert):
        target = query.find(exp.Table)
        if target is not None:
            yield target
        return
    if isinstance(query, exp.Update | exp.Delete) and query.this is not None:
        yield query.this
        yield from _joined(query.this)
    for name in ("from_", "using"):
        given = query.args.get(name)
        for one in given if isinstance(given, list) else [given] if isinstance(given, exp.Expr) else []:
            source = one.this if isinstance(one, exp.From) else one
            yield source
            yield from _joined(source)
    yield from _joined(query)


def _joined(source: exp.Expr) -> Iterator[exp.Expr]:
    for join in source.args.get("joins") or ():
        yield join.this
        yield from _joined(join.this)


def _conditions(query: exp.Expr) -> Iterator[exp.Expr]:
    where = query.args.get("where")
    if where is not None:
        yield where.this
    stack = [query, *(source for source in _sources(query))]
    for one in stack:
        for join in one.args.get("joins") or ():
            if join.args.get("on") is not None:
                yield join.args["on"]


def _parts(condition: exp.Expr) -> Iterator[exp.Expr]:
    condition = condition.unnest()
    if isinstance(condition, exp.And):
        yield from _parts(condition.left)
        yield from _parts(condition.right)
    else:
        yield condition


def _members(written: exp.Expr) -> list[exp.Expr]:
    return written.expressions if isinstance(written, exp.Tuple) else [written]


def _returned(query: exp.Expr) -> list[exp.Expr]:
    returning = query.args.get("returning")
    return returning.expressions if returning is not None else []


def _renamed(handed: dict[str, Node], source: exp.Expr) -> dict[str, Node]:
    names = source.args["alias"].columns if source.args.get("alias") is not None else []
    inner = source.this.unnest() if isinstance(source.this, exp.Expr) else source
    if not names or not isinstance(inner, exp.Query):
        return handed
    pairs = zip(inner.named_selects, names, strict=False)
    return {new.name: handed[old] for old, new in pairs if old in handed}


def _nested(query: exp.Expr) -> Iterator[exp.Expr]:
    """Find the queries within expressions: those that are neither a source nor looked at already."""
    skipped = {id(source) for source in _sources(query)}
    skipped |= {id(query.args.get("with_")), id(query.expression) if isinstance(query, exp.Insert) else 0}
    stack = [child for child in query.iter_expressions() if id(child) not in skipped]
    while stack:
        one = stack.pop()
        if id(one) in skipped:
            # what hangs on a source besides are joins, and their conditions
            stack += [join for join in one.args.get("joins") or () if isinstance(one, exp.Table | exp.Subquery)]
        elif isinstance(one, exp.Query):
            yield one
        else:
            stack += list(one.iter_expressions())

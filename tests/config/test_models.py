from rtobserver.config.models import retirements


def test_the_table_names_each_model_once_for_each_vendor() -> None:
    rows = [(row.kind, row.name, row.by) for row in retirements()]
    assert rows
    assert len(rows) == len(set(rows))
    assert {by for _, _, by in rows} == {"OpenAI", "Azure"}


def test_no_model_is_recommended_in_place_of_another_that_goes_at_the_same_time() -> None:
    table = retirements()
    going = {(row.name, row.by) for row in table}
    assert not [row for row in table if (row.instead, row.by) in going]

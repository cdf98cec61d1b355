from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from rtobserver.metrics import Metrics

LABELS = {"what", "outcome", "code", "step", "status", "kind", "frames", "reason", "written", "version", "le"}
LABELS |= {"mode", "acted", "trouble", "how"}
OF_THE_CONFIGURATION = {"policy", "webhook"}


def test_figures_are_rendered_as_text_that_prometheus_reads() -> None:
    metrics = Metrics()
    metrics.calls_negotiated.labels("answered").inc()
    metrics.negotiation_seconds.observe(0.3)
    metrics.upstream_requests.labels("calls", "201").inc(2)
    metrics.entries_recorded.labels("event").inc(5)
    metrics.queue_rows.set(7)
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }
    assert found["rtobserver_calls_negotiated_total", "answered"] == 1
    assert found["rtobserver_upstream_requests_total", "201", "calls"] == 2
    assert found["rtobserver_entries_recorded_total", "event"] == 5
    assert found[("rtobserver_queue_rows",)] == 7
    assert found["rtobserver_negotiation_seconds_bucket", "0.35"] == 1
    assert found[("process_resident_memory_bytes",)] > 0


def test_every_label_has_a_short_closed_list_of_values() -> None:
    metrics = Metrics()
    for name in vars(metrics):
        figure = getattr(metrics, name)
        assert set(getattr(figure, "_labelnames", ())) <= LABELS | OF_THE_CONFIGURATION, name


def test_two_daemons_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.live_calls.inc()
    assert b"rtobserver_live_calls 1.0" in one.render()
    assert b"rtobserver_live_calls 0.0" in other.render()


def test_every_figure_says_what_it_counts() -> None:
    text = Metrics().render().decode()
    for name in set(re.findall(r"^# TYPE (rtobserver_\w+)", text, re.MULTILINE)):
        assert re.search(rf"^# HELP {name} \S.*\.$", text, re.MULTILINE), name

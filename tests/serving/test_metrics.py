"""What /metrics says, read by Prometheus' own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from nbops.serving.metrics import EndpointMetrics, ModelMetrics


def test_the_text_is_prometheus_text() -> None:
    metrics = EndpointMetrics()
    model = ModelMetrics('odd"name', "3")
    metrics.models.append(model)
    for latency_s in (0.0001, 0.003, 20.0):
        model.answered(200, latency_s, 2)
    model.answered(400, 0.001, 5)
    model.batched(6)
    metrics.refuse("auth")
    families = {f.name: f for f in text_string_to_metric_families(metrics.text({'odd"name': 7}).decode())}
    labels = {"model": 'odd"name', "version": "3"}
    requests = {s.labels["code"]: s.value for s in families["nbops_requests"].samples}
    assert requests == {"200": 3, "400": 1}
    latency = families["nbops_request_latency_seconds"]
    assert latency.type == "histogram"
    buckets = {s.labels["le"]: s.value for s in latency.samples if s.name.endswith("_bucket")}
    assert (buckets["0.00025"], buckets["0.005"], buckets["10.0"], buckets["+Inf"]) == (1, 3, 3, 4)
    assert [s.value for s in latency.samples if s.name.endswith("_count")] == [4]
    assert [(s.labels, s.value) for s in families["nbops_rows"].samples] == [(labels, 6)]
    assert [s.value for s in families["nbops_queue_rows"].samples] == [7]
    assert [s.value for s in families["nbops_refused"].samples] == [1]
    assert families["process_resident_memory_bytes"].samples[0].value > 1 << 20


def test_the_summary_has_percentiles_of_the_latest_requests() -> None:
    model = ModelMetrics("m", "1")
    assert model.summary()["p50_ms"] is None
    for _ in range(5000):
        model.answered(500, 9.0, 1)
    for _ in range(4096):
        model.answered(200, 0.002, 1)
    model.batched(4)
    summary = model.summary()
    assert (summary["requests"], summary["errors"], summary["rows"], summary["rows_per_batch"]) == (9096, 5000, 4096, 4)
    assert abs(summary["p99_ms"] - 2.0) < 1e-9

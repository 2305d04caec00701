"""What the tests' own Messages server promises, asked with the real SDK."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types.messages import MessageBatch

from conftest import ModelServer
from messages_server import turn_digest

MODEL = "claude-opus-5-5"
GUIDE = "Name the thing and leave out what it means. " * 60  # 660 tokens
HOUR = {"type": "ephemeral", "ttl": "1h"}
CACHED = [{"type": "text", "text": GUIDE, "cache_control": HOUR}]


def params(turn: str = "A cup.", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": turn}]
    return {"model": MODEL, "max_tokens": 1000, "messages": messages, **more}


def formatted(schema: dict[str, Any]) -> dict[str, Any]:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def item(name: str, turn: str | None = None, **more: Any) -> Any:
    return {"custom_id": name, "params": params(turn or name, **more)}


@pytest.fixture
def client(model_server: ModelServer) -> Any:
    with anthropic.Anthropic(max_retries=0, timeout=20) as client:
        yield client


def ended(client: anthropic.Anthropic, batch: MessageBatch) -> MessageBatch:
    while batch.processing_status != "ended":
        assert batch.request_counts.succeeded == 0
        time.sleep(0.02)
        batch = client.messages.batches.retrieve(batch.id)
    return batch


def results(client: anthropic.Anthropic, batch: MessageBatch) -> dict[str, Any]:
    return {r.custom_id: r.result for r in client.messages.batches.results(batch.id)}


def text(content: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": content, **more}


NODE = {"type": "object", "properties": {}, "additionalProperties": False}
LOOP = {"$ref": "#/$defs/n", "$defs": {"n": {**NODE, "properties": {"n": {"$ref": "#/$defs/n"}}}}}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"temperature": 0.5}, "temperature: Extra inputs are not permitted"),
        ({"top_k": 3}, "top_k: Extra inputs are not permitted"),
        ({"thinking": {"type": "disabled"}}, "use 'adaptive'"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "use 'adaptive'"),
        ({"max_tokens": 128_001}, "from 0 to 128000"),
        ({"max_tokens": True}, "not an integer"),
        ({"stream": True}, "stream: not spoken"),
        ({"system": [text("a", name="b")]}, "system.0.name: Extra inputs"),
        ({"system": [text(" ")]}, "must be non-empty"),
        ({"system": [text("a", cache_control={"type": "ephemeral", "ttl": "2h"})]}, "'5m' or '1h'"),
        ({"system": [text("a", cache_control=HOUR)] * 5}, "maximum of 4"),
        (
            {"system": [text("a", cache_control={"type": "ephemeral"}), *CACHED]},
            "must not come after",
        ),
        ({"messages": [{"role": "user", "content": ""}]}, "must be non-empty"),
        ({"messages": [{"role": "user", "content": "a"}] * 2}, "roles must alternate"),
        (
            {"messages": [*params()["messages"], {"role": "assistant", "content": "{"}]},
            "does not support assistant message prefill",
        ),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        (formatted({"type": "string", "maxLength": 3}), "'maxLength' is not supported"),
        (formatted({"type": "object", "properties": {}}), "must be explicitly false"),
        (formatted(LOOP), "is recursive"),
    ],
)
def test_what_the_api_would_not_take_is_refused_live_and_errored_in_a_batch(
    client: anthropic.Anthropic, more: dict[str, Any], says: str
) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.post("/v1/messages", body=params(**more), cast_to=object)
    assert says in str(caught.value.api_message)
    assert caught.value.request_id
    batch = client.messages.batches.create(requests=[item("bad", **more), item("good")])
    found = results(client, ended(client, batch))
    assert found["bad"].error.error.type == "invalid_request_error"
    assert says in found["bad"].error.error.message
    assert found["good"].type == "succeeded"


def test_keys_versions_models_and_sizes_are_checked(
    client: anthropic.Anthropic, model_server: ModelServer
) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        client.with_options(api_key="wrong").messages.create(**params())
    with pytest.raises(anthropic.AuthenticationError):
        client.with_options(api_key="wrong").messages.batches.list()
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**params() | {"model": "claude-nowhere"})
    with pytest.raises(anthropic.ContentTooLargeError):
        client.messages.create(**params("a" * 2**25))
    request = urllib.request.Request(
        f"{model_server.url}/v1/messages",
        json.dumps(params()).encode(),
        {"x-api-key": "k", "content-type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert b"anthropic-version" in caught.value.read()
    caught.value.close()
    with pytest.raises(urllib.error.HTTPError, match="400"):
        model_server.faults(pmistyped=1)


def test_every_cold_request_writes_the_cache_and_the_next_reads_it(
    model_server: ModelServer,
) -> None:
    model_server.faults(latency=0.3)

    async def main() -> tuple[list[Any], Any, int]:
        async with anthropic.AsyncAnthropic() as client:
            ask = [client.messages.create(**params(f"{n}", system=CACHED)) for n in range(3)]
            cold = [message.usage for message in await asyncio.gather(*ask)]
            warm = (await client.messages.create(**params("9", system=CACHED))).usage
            count = await client.messages.count_tokens(
                model=MODEL, system=CACHED, messages=params("9")["messages"]
            )
            return cold, warm, count.input_tokens

    cold, warm, count = asyncio.run(main())
    assert {u.cache_creation.ephemeral_1h_input_tokens for u in cold} == {660}
    assert {u.cache_read_input_tokens for u in cold} == {0}
    assert (warm.cache_creation_input_tokens, warm.cache_read_input_tokens) == (0, 660)
    assert (warm.input_tokens + warm.cache_read_input_tokens, warm.service_tier) == (
        count,
        "standard",
    )
    stats = model_server.stats()
    assert (stats["cold_writes"], stats["cache_written"], stats["cache_read"]) == (3, 1980, 660)
    assert stats["counted"] == 1


def test_a_prefix_is_forgotten_under_another_format_after_its_time_and_when_short(
    client: anthropic.Anthropic, model_server: ModelServer
) -> None:
    def written(**more: Any) -> int:
        message = client.messages.create(**params(system=CACHED) | more)
        return message.usage.cache_creation_input_tokens or 0

    model_server.faults(ttl=0.3)
    assert [written(), written()] == [660, 0]
    assert written(**formatted(NODE)) > 660
    time.sleep(0.4)
    assert written() == 660
    assert written(model="claude-sonnet-5-5") == 0
    assert written(system=[text("short", cache_control=HOUR)]) == 0
    assert written(system=[*CACHED, text(GUIDE, cache_control={"type": "ephemeral"})]) == 660


def test_a_request_for_no_tokens_warms_the_cache(client: anthropic.Anthropic) -> None:
    warm = client.messages.create(**params(system=CACHED) | {"max_tokens": 0})
    assert (warm.content, warm.stop_reason, warm.usage.output_tokens) == ([], "max_tokens", 0)
    assert warm.usage.cache_creation_input_tokens == 660
    assert client.messages.create(**params(system=CACHED)).usage.cache_read_input_tokens == 660


def test_limits_are_told_and_kept(client: anthropic.Anthropic, model_server: ModelServer) -> None:
    raw = client.messages.with_raw_response
    assert not [h for h in raw.create(**params()).headers if "ratelimit" in h]
    model_server.faults(rpm=2, itpm=10_000)
    headers = raw.create(**params()).headers
    assert headers["anthropic-ratelimit-requests-limit"] == "2"
    assert headers["anthropic-ratelimit-requests-remaining"] == "1"
    assert headers["anthropic-ratelimit-tokens-reset"].endswith("Z")
    raw.create(**params())
    with pytest.raises(anthropic.RateLimitError) as caught:
        raw.create(**params())
    assert 25 <= int(caught.value.response.headers["retry-after"]) <= 30
    assert model_server.stats()["over_rate"] == 1


def test_more_at_once_than_allowed_are_turned_away(model_server: ModelServer) -> None:
    model_server.faults(max_concurrent=3, latency=0.3)

    async def main() -> list[Any]:
        async with anthropic.AsyncAnthropic(max_retries=0) as client:
            asked = [client.messages.create(**params(f"{n}")) for n in range(5)]
            return await asyncio.gather(*asked, return_exceptions=True)

    found = asyncio.run(main())
    assert sum(isinstance(f, anthropic.RateLimitError) for f in found) == 2
    assert model_server.stats()["most_in_flight"] == 3


@pytest.mark.parametrize(
    ("fault", "error", "paid"),
    [
        ("401", anthropic.AuthenticationError, 0),
        ("403", anthropic.PermissionDeniedError, 0),
        ("413", anthropic.ContentTooLargeError, 0),
        ("429", anthropic.RateLimitError, 0),
        ("429bare", anthropic.RateLimitError, 0),
        ("500", anthropic.InternalServerError, 0),
        ("503", anthropic.ServiceUnavailableError, 0),
        ("529", anthropic.OverloadedError, 0),
        ("spend", anthropic.RateLimitError, 0),
        ("hang", anthropic.APITimeoutError, 0),
        ("drop", anthropic.APIConnectionError, 0),
        ("reset", anthropic.APIConnectionError, 1),
    ],
)
def test_a_fault_is_an_error_of_the_sdk(
    client: anthropic.Anthropic, model_server: ModelServer, fault: str, error: type, paid: int
) -> None:
    model_server.faults(**{f"p{fault}": 1.0}, retry_after=7)
    with pytest.raises(error) as caught:
        client.with_options(timeout=0.5).messages.create(**params())
    if isinstance(caught.value, anthropic.RateLimitError):
        waits = caught.value.response.headers.get("retry-after")
        assert waits == ("7" if fault == "429" else None)
        spent = "enforced_spend_limit_reached" if fault == "spend" else None
        assert caught.value.error_code == spent
    stats = model_server.stats()
    assert (stats[fault], stats.get("paid", 0), stats.get("paid_unseen", 0)) == (1, paid, paid)


@pytest.mark.parametrize("fault", ["truncated", "invalid", "bounds", "refusal", "empty"])
def test_a_spoiled_answer_is_paid_live_and_in_a_batch(
    client: anthropic.Anthropic, model_server: ModelServer, fault: str
) -> None:
    model_server.faults(**{f"p{fault}": 1.0})
    turn = "Name a thing that floats, as JSON."
    live = client.messages.create(**params(turn))
    found = results(client, ended(client, client.messages.batches.create(requests=[item("a")])))
    for message in (live, found["a"].message):
        stops = {"truncated": "max_tokens", "refusal": "refusal"}
        assert message.stop_reason == stops.get(fault, "end_turn")
        assert (message.content == []) == (fault in ("refusal", "empty"))
    if fault == "refusal":
        assert live.stop_details is not None
        assert live.stop_details.category == "frontier_llm"
    assert model_server.paid() == {"live": {turn_digest(turn): 1}, "batch": {"a": 1}}
    assert (model_server.stats()["paid"], model_server.stats()["answered"]) == (2, 0)


def test_a_drip_outlasts_every_timeout_but_a_deadline(
    client: anthropic.Anthropic, model_server: ModelServer
) -> None:
    model_server.faults(pdrip=1.0, drip_seconds=1.5)
    started = time.monotonic()
    client.with_options(timeout=0.5).messages.create(**params())
    assert time.monotonic() - started > 1.2
    stats = model_server.stats()
    assert (stats["paid"], stats["paid_unseen"], stats["answered"]) == (1, 0, 1)


def test_faults_are_a_function_of_seed_turn_and_attempt(
    client: anthropic.Anthropic, model_server: ModelServer
) -> None:
    def codes(**faults: float) -> list[int]:
        model_server.faults(p500=0.3, pdrop=0.2, **faults)
        found = []
        for turn in "abcabc" * 3:
            try:
                client.messages.create(**params(turn))
                found.append(200)
            except anthropic.APIConnectionError:
                found.append(0)
            except anthropic.APIStatusError as error:
                found.append(error.status_code)
        return found

    assert set(codes()) == {0, 200, 500}
    assert codes() == codes()
    assert codes(seed=8) != codes()


def test_a_batch_ends_with_one_result_for_each_item_in_another_order(
    client: anthropic.Anthropic, model_server: ModelServer
) -> None:
    model_server.faults(perrored=0.2, pexpired=0.2, batch_seconds=0.1)
    names = [f"n-{n}" for n in range(60)]
    made = client.messages.batches.create(requests=[item(n, system=CACHED) for n in names])
    assert (made.request_counts.processing, made.results_url) == (60, None)
    with pytest.raises(anthropic.NotFoundError):
        client.get(f"/v1/messages/batches/{made.id}/results", cast_to=object)
    batch = ended(client, made)
    found = results(client, batch)
    assert sorted(found) == sorted(names)
    assert list(found) != names
    good = {n for n, result in found.items() if result.type == "succeeded"}
    assert batch.request_counts.succeeded == len(good) < 60
    assert batch.request_counts.errored > 0
    assert batch.request_counts.expired > 0
    assert model_server.paid()["batch"] == dict.fromkeys(good, 1)
    usages = [found[n].message.usage for n in good]
    assert {u.service_tier for u in usages} == {"batch"}
    assert 0 < sum(u.cache_creation_input_tokens > 0 for u in usages) <= 16
    stats = model_server.stats()
    assert stats["paid"] == stats["paid_batch"] == len(good)
    assert sum(u.input_tokens for u in usages) == stats["tokens_in"]
    assert sum(u.cache_read_input_tokens for u in usages) == stats["cache_read"]


@pytest.mark.parametrize(
    "body",
    [
        {"requests": []},
        {"requests": [item("a")], "name": "b"},
        {"requests": [item("a"), item("a")]},
        {"requests": [item("a b")]},
        {"requests": [item("a\n")]},
        {"requests": [item("a" * 65)]},
        {"requests": [{**item("a"), "priority": 1}]},
        {"requests": [{"custom_id": "a"}]},
    ],
)
def test_a_malformed_batch_is_not_made(client: anthropic.Anthropic, body: Any) -> None:
    with pytest.raises(anthropic.BadRequestError):
        client.post("/v1/messages/batches", body=body, cast_to=object)
    assert client.messages.batches.list().data == []


def test_a_cancelled_batch_keeps_what_was_done(
    client: anthropic.Anthropic, model_server: ModelServer
) -> None:
    model_server.faults(batch_seconds=60)
    batch = client.messages.batches.create(requests=[item(f"{n}") for n in range(40)])
    with pytest.raises(anthropic.BadRequestError, match="cancel it first"):
        client.messages.batches.delete(batch.id)
    assert client.messages.batches.cancel(batch.id).processing_status == "canceling"
    batch = ended(client, batch)
    assert batch.cancel_initiated_at
    counts = batch.request_counts
    assert counts.succeeded + counts.canceled == 40
    assert counts.succeeded == model_server.stats()["paid"] > 5
    assert counts.canceled > 5
    with pytest.raises(anthropic.BadRequestError):
        client.messages.batches.cancel(batch.id)
    client.messages.batches.delete(batch.id)
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.retrieve(batch.id)


def test_batches_are_listed_page_by_page_newest_first(client: anthropic.Anthropic) -> None:
    made = [client.messages.batches.create(requests=[item("a")]).id for _ in range(7)]
    newest = made[::-1]
    listed = client.messages.batches.list
    assert [b.id for b in listed(limit=3)] == newest
    first = listed(limit=3)
    assert (first.first_id, first.last_id, first.has_more) == (newest[0], newest[2], True)
    last = listed(limit=4, after_id=newest[2])
    assert ([b.id for b in last.data], last.has_more) == (newest[3:], False)
    before = listed(limit=2, before_id=newest[3])
    assert ([b.id for b in before.data], before.has_more) == (newest[1:3], True)
    with pytest.raises(anthropic.BadRequestError):
        listed(limit=1001)


def test_a_batch_whose_making_was_not_answered_is_there(
    client: anthropic.Anthropic, model_server: ModelServer
) -> None:
    model_server.faults(pcreate_lost=1)
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.batches.create(requests=[item("a")])
    (batch,) = client.messages.batches.list().data
    model_server.change(presults_reset=1)
    batch = ended(client, batch)
    with pytest.raises(httpx2.ReadError):
        results(client, batch)
    model_server.change()
    assert set(results(client, batch)) == {"a"}
    assert model_server.paid()["batch"] == {"a": 1}


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.messages.count_tokens(model=MODEL, messages=params()["messages"]),
        lambda c: c.messages.batches.create(requests=[item("a")]),
        lambda c: c.messages.batches.list(),
        lambda c: c.messages.batches.retrieve("msgbatch_1"),
    ],
)
def test_every_other_call_can_fail(
    client: anthropic.Anthropic, model_server: ModelServer, call: Callable[[Any], Any]
) -> None:
    model_server.faults(papi_529=1)
    with pytest.raises(anthropic.OverloadedError):
        call(client)
    assert model_server.stats()["api_529"] == 1
    model_server.faults()
    assert client.messages.batches.list().data == []


@pytest.mark.slow
def test_ten_thousand_items_are_taken_in_seconds(
    client: anthropic.Anthropic, model_server: ModelServer
) -> None:
    requests = [item(f"{n}", system=CACHED) for n in range(10_000)]
    started = time.monotonic()
    batch = client.messages.batches.create(requests=requests)
    assert time.monotonic() - started < 6
    batch = ended(client, batch)
    assert time.monotonic() - started < 20
    assert batch.request_counts.succeeded == model_server.stats()["answered"] == 10_000

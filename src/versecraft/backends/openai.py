"""Any server that speaks OpenAI's chat completions: vLLM, llama-server, Ollama and others."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import BackendError, BadInput
from ..hookspecs import hookimpl
from ..records import Usage
from . import Backend, Price, Reply, Request

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession


class OpenAI:
    """Asks a model of an OpenAI-compatible server, with the schema as `response_format`.

    A key is sent where `OPENAI_API_KEY` is set.

    Args:
        spec: Address and model, such as "http://127.0.0.1:8000/v1#qwen3-8b".
        temperature: Left to the server when None.
        concurrency: Requests in flight at once.
        timeout: Seconds for one attempt as a whole.
        price: Dollars per million tokens, for servers that bill.

    Raises:
        BadInput: The spec has no address or no model.
    """

    def __init__(
        self,
        spec: str,
        *,
        temperature: float | None = None,
        concurrency: int = 32,
        timeout: float = 600.0,
        price: Price | None = None,
    ) -> None:
        url, _, model = spec.partition("#")
        if urlsplit(url).scheme not in ("http", "https") or not model:
            raise BadInput(
                f"openai:{spec} needs an address and a model. "
                "Write openai:http://127.0.0.1:8000/v1#model."
            )
        self.url = url.rstrip("/") + "/chat/completions"
        self.model = model
        self.temperature = temperature
        warm = "" if temperature is None else f";temperature={temperature:g}"
        # Without user and password, which would else stand in every row.
        parts = urlsplit(url)
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self.id = f"openai:{shown}#{model}{warm}"
        self.concurrency = concurrency
        self.timeout = timeout
        self.price = price
        self._session: ClientSession | None = None

    async def complete(self, request: Request) -> Reply:
        """Asks once.

        Raises:
            BackendError: No usable answer: refusal, cut at `max_tokens`, HTTP or connection error.
        """
        import aiohttp

        try:
            async with self._connect().post(self.url, json=self._body(request)) as response:
                if response.status != 200:
                    raise await _status(response)
                answer = await response.json(content_type=None)
        except aiohttp.ClientError as error:
            raise BackendError(
                f"connection: {type(error).__name__}: {error}. Is the server up?",
                retryable=True,
                lost=not isinstance(error, aiohttp.ClientConnectorError),
            ) from error
        except ValueError as error:
            raise BackendError(
                f"unreadable response: {error}", retryable=True, lost=True
            ) from error
        return _reply(answer, self.model)

    async def aclose(self) -> None:
        """Closes the connections; the next request opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_tokens,
            "messages": [{"role": "system", "content": request.system}, *request.messages()],
        }
        if request.schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {
                    "name": request.meta.get("task", "answer").replace("/", "_"),
                    "schema": request.schema,
                    "strict": True,
                },
            }
        if request.seed is not None:
            body["seed"] = request.seed
        if self.temperature is not None:
            body["temperature"] = self.temperature
        return body

    def _connect(self) -> ClientSession:
        if self._session is None:
            import aiohttp

            key = os.environ.get("OPENAI_API_KEY")
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self.concurrency),
                timeout=aiohttp.ClientTimeout(total=self.timeout),
                headers={"authorization": f"Bearer {key}"} if key else {},
            )
        return self._session


async def _status(response: ClientResponse) -> BackendError:
    code = response.status
    said = (await response.text())[:300]
    if key := os.environ.get("OPENAI_API_KEY"):
        said = said.replace(key, "…")
    hint = {401: " Check OPENAI_API_KEY.", 404: " Check the address and the model."}.get(code, "")
    after = response.headers.get("retry-after", "")
    return BackendError(
        f"HTTP {code}: {said}{hint}",
        retryable=code in (408, 409, 429) or code >= 500,
        retry_after=float(after) if after.replace(".", "", 1).isdigit() else None,
        overloaded=code in (429, 503, 529),
        fatal=code in (401, 402, 403, 404),
    )


def _reply(answer: Any, model: str) -> Reply:
    try:
        choice = answer["choices"][0]
        message = choice["message"] or {}
        counts = answer.get("usage") or {}
    except (KeyError, IndexError, TypeError) as error:
        raise BackendError(
            f"no choices in the response: {str(answer)[:200]}", retryable=True, lost=True
        ) from error
    facts: dict[str, Any] = {
        "usage": Usage(
            requests=1,
            input=counts.get("prompt_tokens") or 0,
            output=counts.get("completion_tokens") or 0,
        ),
        "model": answer.get("model") or model,
        "request_id": answer.get("id"),
        "stop_reason": choice.get("finish_reason"),
    }
    if message.get("refusal") or choice.get("finish_reason") == "content_filter":
        why = message.get("refusal") or "content filter"
        raise BackendError(f"the model declined: {why}", kind="refusal", **facts)
    if choice.get("finish_reason") == "length":
        raise BackendError(
            f"cut at {facts['usage'].output} tokens; raise the task's max_tokens",
            kind="truncated",
            retryable=True,
            text=message.get("content") or "",
            **facts,
        )
    return Reply(text=message.get("content") or "", **facts)


@hookimpl
def versecraft_backends() -> Mapping[str, Callable[..., Backend]]:
    """Registers `openai:`."""
    return {"openai": OpenAI}

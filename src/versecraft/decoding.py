"""One thread that runs a GGUF by llama.cpp: several requests at once, a token each at a time."""

from __future__ import annotations

import math
import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from .backends import Reply, Request
from .errors import BackendError, BadInput
from .grammar import grammar_of
from .records import Usage
from .sampling import Sampler
from .weights import Model, open_model

__all__ = ["Engine", "Settings"]

_BATCH = 512  # tokens evaluated in one step
_CHARS_PER_TOKEN = 2  # at the worst; English prose has four and more
_EXTRA = 1024  # tokens that each request but the first adds to what there is room for


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is run; see `backends.gguf.GGUF`."""

    context: int
    threads: int
    gpu_layers: int
    sequences: int
    temperature: float


@dataclass(slots=True, eq=False)
class _Job:
    """A request that waits, with the seed of its draw and where its answer goes."""

    request: Request
    seed: int
    future: Future[Reply] = field(default_factory=Future)
    prompt: list[int] = field(default_factory=list)
    limit: int = 0
    grammar: str | None = None

    def settle(self, outcome: Reply | BaseException) -> None:
        try:
            if isinstance(outcome, BaseException):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)
        except InvalidStateError:  # nobody waits any more
            pass


@dataclass(slots=True, eq=False)
class _Sequence:
    """A place in llama.cpp's memory, and what is written there.

    Attributes:
        held: Tokens that are evaluated.
        pending: Tokens to be evaluated next; one unless a prompt has just come.
        made: Tokens of the answer.
        since: When its job came, counted in jobs.
    """

    number: int
    held: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    job: _Job | None = None
    made: list[int] = field(default_factory=list)
    since: int = 0
    sampler: Sampler | None = None


class Engine:
    """A thread that loads a model with the first request and answers until it is closed."""

    def __init__(self, path: Path, name: str, settings: Settings) -> None:
        self.path = path
        self.name = name
        self.settings = settings
        self._inbox: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        # Not waited for at exit: what closes the engine then does that.
        self._thread = threading.Thread(target=self._run, name=f"gguf {name}", daemon=True)
        self._thread.start()

    def ask(self, request: Request, seed: int) -> Future[Reply]:
        """Hands a request in; cancelling what comes back drops it. After `close` it fails."""
        job = _Job(request, seed)
        self._inbox.put(job)
        if self._closed:  # looked at last: what was handed in before, the thread settles
            job.settle(_closed())
        return job.future

    def close(self) -> None:
        """Drops what is under way, gives the memory back and ends the thread."""
        self._closed = True
        self._inbox.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        job = self._inbox.get()
        if job is None:
            return
        try:
            with (
                open_model(self.path, self.settings.gpu_layers) as model,
                _Decoder(model, self.name, self.settings) as decoder,
            ):
                decoder.serve(job, self._inbox)
            return
        except BaseException as error:
            fault = error
        job.settle(fault)
        while (job := self._inbox.get()) is not None:
            job.settle(fault)


class _Decoder:
    """llama.cpp's context, batch and samplers, in the thread that uses them."""

    def __init__(self, model: Model, name: str, settings: Settings) -> None:
        self.model, self.lib, self.name, self.settings = model, model.lib, name, settings
        self.context = min(settings.context, model.trained or settings.context)
        self.sequences = [_Sequence(n) for n in range(settings.sequences)]
        self.waiting: deque[_Job] = deque()
        self.jobs = 0
        self.full = False
        lib = self.lib
        params = lib.llama_context_default_params()
        params.n_ctx = self.context + _EXTRA * (settings.sequences - 1)
        params.n_batch = params.n_ubatch = _BATCH
        params.n_seq_max = settings.sequences
        params.kv_unified = True  # what prompts share is kept once
        params.n_threads = params.n_threads_batch = settings.threads
        # It passes over what other sequences wrote; without it they slow one another down.
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_AUTO
        self.ctx = lib.llama_init_from_model(model.ptr, params)
        if not self.ctx:
            raise BackendError(
                f"there is no memory for a context of {params.n_ctx:,} tokens; make context= or "
                "concurrency= smaller",
                fatal=True,
            )
        self.memory = lib.llama_get_memory(self.ctx)
        self.batch = lib.llama_batch_init(_BATCH, 0, 1)

    def __enter__(self) -> _Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        for sequence in self.sequences:
            self._leave(sequence)
        self.lib.llama_batch_free(self.batch)
        self.lib.llama_free(self.ctx)

    def serve(self, job: _Job, inbox: SimpleQueue[_Job | None]) -> None:
        """Answers jobs until None comes; then drops what is left."""
        self.waiting.append(job)
        why: Exception = _closed()
        try:
            while self._take_in(inbox):
                self._admit()
                if any(sequence.job for sequence in self.sequences):
                    self._step()
        except Exception as error:
            why = error
            raise
        finally:
            for job in (*(s.job for s in self.sequences if s.job), *self.waiting):
                job.settle(why)

    def _take_in(self, inbox: SimpleQueue[_Job | None]) -> bool:
        """Collects what came, waiting where there is nothing to do; False at the end."""
        for sequence in self.sequences:
            if sequence.job and sequence.job.future.cancelled():
                self._leave(sequence)
        while True:
            idle = not (self.waiting or any(sequence.job for sequence in self.sequences))
            try:
                job = inbox.get(block=idle)
            except Empty:
                return True
            if job is None:
                return False
            self.waiting.append(job)

    def _admit(self) -> None:
        """Gives a free place to the next job, once those before it have their prompts evaluated.

        Then it finds there what its prompt shares with theirs.
        """
        while self.waiting and not self.full and all(len(s.pending) < 2 for s in self.sequences):
            free = [sequence for sequence in self.sequences if sequence.job is None]
            if not free:
                return
            job = self.waiting.popleft()
            if job.future.cancelled():
                continue
            try:
                self._prepare(job)
                sampler = Sampler(
                    self.model,
                    temperature=self.settings.temperature,
                    seed=job.seed,
                    grammar=job.grammar,
                )
            except Exception as error:  # such as an odd schema of a plugin; the row records it
                job.settle(error)
                continue
            self._begin(job, sampler, free)

    def _prepare(self, job: _Job) -> None:
        """Prompt, grammar and limit of a job.

        Raises:
            BackendError: The prompt or the longest answer does not fit.
        """
        request = job.request
        system = [{"role": "system", "content": request.system}] if request.system else []
        job.prompt = self.model.prompt([*system, *request.messages()])
        size, room = len(job.prompt), self.context - len(job.prompt)
        job.limit = min(request.max_tokens, room)
        if room < 1:
            raise BackendError(
                f"the prompt has {size:,} tokens and the context {self.context:,}; {self._more()}",
                kind="truncated",
                model=self.name,
            )
        if request.schema is None:
            return
        try:
            grammar = grammar_of(request.schema, request.turn)
        except BadInput as error:
            raise BackendError(str(error), kind="invalid") from error
        job.grammar = grammar.text
        need = math.ceil(grammar.longest / _CHARS_PER_TOKEN)
        if need > job.limit:
            raise BackendError(
                f"the longest answer that the schema allows takes {need:,} tokens (two characters "
                f"each); max_tokens is {request.max_tokens:,}, and the prompt's {size:,} leave "
                f"{room:,} of the context's {self.context:,}. {self._more().capitalize()}; or "
                "raise max_tokens, or bound the schema.",
                kind="truncated",
                model=self.name,
            )

    def _more(self) -> str:
        if self.context < self.model.trained:
            return f"raise context=, up to {self.model.trained:,} with this model"
        return "take a model with a longer context, or the persona instead of the guide"

    def _begin(self, job: _Job, sampler: Sampler, free: list[_Sequence]) -> None:
        """Puts a job where its prompt's beginning lies already, or copies that there."""
        shared, source = 0, free[0]
        for sequence in [*free, *self.sequences] if self.model.shares else []:
            if (n := _common(sequence.held, job.prompt)) > shared:
                shared, source = n, sequence
        shared = min(shared, len(job.prompt) - 1)  # the last one's logits are wanted
        # What is mostly another prompt stays, such as a guide that will be wanted again.
        same = source in free and 2 * shared >= len(source.held)
        place = source if same else min(free, key=lambda s: len(s.held))
        if place is source:
            if not self.lib.llama_memory_seq_rm(self.memory, place.number, shared, -1):
                shared = 0
                self.lib.llama_memory_seq_rm(self.memory, place.number, -1, -1)
        else:
            self.lib.llama_memory_seq_rm(self.memory, place.number, -1, -1)
            if shared:
                self.lib.llama_memory_seq_cp(self.memory, source.number, place.number, 0, shared)
        place.held, place.pending, place.made = job.prompt[:shared], job.prompt[shared:], []
        place.job, place.since = job, self.jobs
        self.jobs += 1
        place.sampler = sampler

    def _leave(self, sequence: _Sequence) -> None:
        """Frees a place; what is evaluated there stays, for a prompt that begins alike."""
        if sequence.sampler:
            sequence.sampler.close()
        sequence.sampler = sequence.job = None
        sequence.pending = []
        self.full = False

    def _step(self) -> None:
        """Evaluates what is pending, as much as a batch takes, and draws where a prompt ends."""
        taken: list[tuple[_Sequence, int]] = []
        drawing: list[tuple[_Sequence, int]] = []
        batch, n = self.batch, 0
        for sequence in self.sequences:
            part = sequence.pending[: _BATCH - n]
            for i, token in enumerate(part):
                batch.token[n], batch.pos[n] = token, len(sequence.held) + i
                batch.seq_id[n][0], batch.n_seq_id[n] = sequence.number, 1
                batch.logits[n] = i == len(sequence.pending) - 1
                n += 1
            if part:
                taken.append((sequence, len(part)))
                if len(part) == len(sequence.pending):
                    drawing.append((sequence, n - 1))
        batch.n_tokens = n
        code = self.lib.llama_decode(self.ctx, batch)
        if code == 1:
            self._make_room()
            return
        if code:
            raise BackendError(f"llama.cpp failed to decode (code {code})", fatal=True)
        for sequence, size in taken:
            sequence.held += sequence.pending[:size]
            sequence.pending = sequence.pending[size:]
        for sequence, at in drawing:
            self._draw(sequence, at)

    def _make_room(self) -> None:
        """Clears places that are not in use; failing that, puts the youngest job off.

        It waits until another one ends. A job alone has room for the whole context.
        """
        idle = [s for s in self.sequences if s.job is None and s.held]
        busy = [s for s in self.sequences if s.job]
        if not idle:
            youngest = max(busy, key=lambda s: s.since)
            if youngest.job and len(busy) > 1:
                self.waiting.appendleft(youngest.job)
            elif youngest.job:
                youngest.job.settle(BackendError("llama.cpp finds no room in its memory"))
            self._leave(youngest)
            self.full = len(busy) > 1
            idle = [youngest]
        for sequence in idle:
            self.lib.llama_memory_seq_rm(self.memory, sequence.number, -1, -1)
            sequence.held = []

    def _draw(self, sequence: _Sequence, at: int) -> None:
        job, sampler = sequence.job, sequence.sampler
        assert job is not None
        assert sampler is not None
        token = sampler.draw(self.ctx, at)
        if token < 0:
            job.settle(
                BackendError("the model has no token that the schema allows", kind="invalid")
            )
            self._leave(sequence)
            return
        ended = self.model.ends(token)
        if not ended:
            sequence.made.append(token)
            ended = sampler.complete()
        if not ended and len(sequence.made) < job.limit:
            sequence.pending = [token]
            return
        usage = Usage(requests=1, input=len(job.prompt), output=len(sequence.made))
        said = b"".join(map(self.model.piece, sequence.made)).decode("utf-8", "replace")
        if ended:
            job.settle(Reply(text=said, model=self.name, usage=usage, stop_reason="stop"))
        else:
            job.settle(self._cut(job, usage, said))
        self._leave(sequence)

    def _cut(self, job: _Job, usage: Usage, said: str) -> BackendError:
        if job.limit == job.request.max_tokens:
            why = f"cut at max_tokens, {job.limit:,}; raise the task's max_tokens"
        else:
            why = (
                f"cut after {usage.output:,} tokens, where prompt ({usage.input:,}) and answer "
                f"fill the context of {self.context:,}; {self._more()}"
            )
        return BackendError(
            why, kind="truncated", usage=usage, model=self.name, stop_reason="length", text=said
        )


def _closed() -> BackendError:
    return BackendError(
        "the model was closed; ask the backend again, which loads it anew",
        kind="cancelled",
        retryable=True,
    )


def _common(a: list[int], b: list[int]) -> int:
    """How many tokens two lists begin with alike."""
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n

"""The workshop: a request becomes a brief, a draft, and by critique and revision a better one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from .answers import Answer, Brief, RevisionBrief, Verse
from .attempts import REASKS
from .backends import Backend, BatchBackend
from .checkpoints import learnt
from .errors import BadInput, WorkshopError
from .generating import generate
from .kinds import classify
from .languages import wrong_language
from .ledger import read_rows
from .planning import items, plan
from .records import BriefItem, Item, Poem, PoemItem, RequestItem, RevisionItem, Row
from .sessions import FILE, Round, Session, Stopped, breaches, changes
from .tasks import PromptTask, bare_text
from .tasks.brief import brief as brief_task
from .tasks.critique import critique as critique_task
from .tasks.poem import poem as poem_task
from .tasks.revision_brief import revision_brief as revision_task

__all__ = ["Step", "Workshop"]

LEDGER = "answers.jsonl"
_LONGEST_POEM = 3072  # tokens from a trained poet, which does not think; some 8,000 characters

System = Literal["guide", "persona"]
In = TypeVar("In", bound=Item)
Out = TypeVar("Out", bound=Answer)


@dataclass(frozen=True)
class Step:
    """Something that happens in a session.

    Attributes:
        task: "brief", "poem", "critique" or "revision_brief".
        number: Of the draft that it is about, from 1.
        by: Id of the backend that is asked.
        session: The session with the answer in it; None while the answer is waited for.
    """

    task: str
    number: int
    by: str
    session: Session | None = None

    def text(self) -> str:
        """The answer as people read it; empty while it is waited for."""
        if self.session is None:
            return ""
        if self.task == "brief":
            return self.session.brief.text() if self.session.brief else ""
        last = self.session.rounds[-1]
        said = {"critique": last.critique, "revision_brief": last.revision_brief}.get(self.task)
        return said.text() if said else last.draft


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """An educator and a poet who work on a poem together.

    Any two backends will do, also one for both. A model that `export` wrote is told its persona
    for the tasks it was trained on, and for others, as every other model, the guide.

    Attributes:
        educator: Who writes the briefs and reads the drafts.
        poet: Who writes the drafts.
        educator_system: "guide" or "persona", where it is to be told the other one.
        poet_system: The same for the poet.
        hold: Whether models that run in this process stay loaded during a session.
    """

    educator: Backend | BatchBackend
    poet: Backend | BatchBackend
    educator_system: System | None = None
    poet_system: System | None = None
    hold: bool = True

    def __post_init__(self) -> None:
        for backend in (self.educator, self.poet):
            if isinstance(backend, str):
                raise BadInput(f"{backend!r} is a name; pass versecraft.get_backend({backend!r}).")

    def write(
        self,
        request: str,
        rounds: int = 3,
        *,
        into: str | Path | None = None,
        budget: float | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> Session:
        """Writes a poem.

        A session ends when a draft is approved and nothing in it must be fixed, be it said or
        measured; after so many rounds; or with a draft that is worse than the one before, or the
        same. Worse are: more that must be fixed; a clause of the form that held and holds no more;
        words lost that were to be kept, or another breach of the revision brief, three times.

        Every answer is kept in the folder before the next is asked for. Call it again with the
        same folder to go on, after a stop, a crash or an error, or for more rounds: what is
        answered is not asked again.

        Args:
            request: What the poem is to be about; 3 to 400 characters.
            rounds: How many drafts at most.
            into: Folder of the session: `session.json` and the ledger `answers.jsonl`. If None, a
                temporary one, which is removed when the session has come to its end.
            budget: Dollars that this call may spend.
            on_step: Called before each question and after its answer.

        Raises:
            BadInput: The request is too short or too long, or the folder holds another session.
            WorkshopError: A model gave no answer of use, after it was told why and asked again.
        """
        if rounds < 1:
            raise BadInput(f"rounds is {rounds}; give 1 or more.")
        items(brief_task, [request])  # refused before there is a folder
        folder = Path(into) if into else Path(tempfile.mkdtemp(prefix="versecraft-session-"))
        sitting = _Sitting(self, request, rounds, folder, budget, on_step or (lambda _: None))
        with ExitStack() as stack:
            for backend in (self.educator, self.poet):
                held = getattr(backend, "held", None)
                if held and self.hold:
                    stack.enter_context(held())
            try:
                session = sitting.run()
            except KeyboardInterrupt as stop:
                stop.add_note(f"The session so far is in {folder}.")
                raise
        if not into and session.stopped != "budget":
            shutil.rmtree(folder)
        return session


class _OutOfBudget(Exception):
    """The next question may cost more than is left."""


class _NoAnswer(Exception):
    """A question without an answer of use."""

    def __init__(self, task: str, number: int, by: str, row: Row, times: int) -> None:
        name = f"a {task.replace('_', ' ')}" if task != "poem" else f"draft {number}"
        what = name if task in ("brief", "poem") else f"{name} for draft {number}"
        # A row with an answer that the checks of today refuse, as they are not those of then.
        self.kind, self.reason, self.said = "stale", "its answer fails the checks of today", ""
        if row.error:
            self.kind = row.error.kind
            self.reason, _, self.said = row.error.message.partition("\nThe answer was: ")
        asked = f", asked {times} times" if times > 1 else ""
        super().__init__(f"{by} did not give {what}{asked}: {self.reason.rstrip('.')}")


_REMEDIES = {
    "refusal": "What is refused is not asked again: change the request, or take another backend",
    "truncated": "It ran on to the token limit; what it said stands in the ledger. Take another "
    "model, or one that has learnt to end",
    "stale": "Delete that line of the ledger",
    "timeout": "Raise the backend's timeout or try later",
    "http": "See to the server or the key",
}
_ELSE = "Take another backend or have it try anew"


class _Sitting:
    """One session at work."""

    def __init__(
        self,
        shop: Workshop,
        request: str,
        rounds: int,
        folder: Path,
        budget: float | None,
        tell: Callable[[Step], None],
    ) -> None:
        self.shop = shop
        self.rounds = rounds
        self.folder = folder
        self.ledger = folder / LEDGER
        self.budget = self.left = float("inf") if budget is None else budget
        self.tell = tell
        self.session = Session(request=request, educator=shop.educator.id, poet=shop.poet.id)
        self.past = Session.read(folder) if (folder / FILE).is_file() else None
        if self.past and self.past.request != request:
            raise BadInput(f"{folder} holds a session on another request. Give another folder.")

    def run(self) -> Session:
        try:
            self._work()
        except _NoAnswer as stop:
            raise self._error(stop) from None
        except _OutOfBudget as stop:
            if self.session.final is None:
                raise self._error(stop) from None
            self._end("budget", f"Stopped: {stop}. To go on, give more and into={self.folder}.")
        return self.session

    def _work(self) -> None:
        asked = self._ask(brief_task, RequestItem(request=self.session.request), 1)
        self._keep(brief_task, 1, brief=asked)
        for number in range(1, self.rounds + 1):
            before = self.session.rounds[-1] if number > 1 else None
            draft = self._draft(number, asked, before)
            if before and draft.draft == before.draft:
                self._end(
                    "unchanged", f"Asked to revise draft {number - 1}, the poet gave it again."
                )
                return
            best = self.session.best or number
            self._keep(poem_task, number, rounds=(*self.session.rounds, draft), best=best)
            if not draft.worse:
                draft = self._read(number, asked, draft, before)
            if draft.worse:
                facts = "; ".join(draft.worse)
                why = f"Draft {number} is worse than draft {number - 1}: {facts}."
                self._end("worse", f"{why} Draft {number - 1} is kept.")
                return
            if draft.approved:
                self._end("approved", f"Draft {number} is approved: nothing in it must be fixed.")
                return
            if number < self.rounds:
                asked = self._revise(number, asked, draft)
        still = "; ".join(draft.defects)
        self._end("rounds", f"Draft {number} was the last. Still to be fixed: {still}.")

    def _draft(self, number: int, asked: Brief, before: Round | None) -> Round:
        """The next draft, with what can be measured of it."""
        item = BriefItem(brief=asked, draft=_poem(before.draft) if before else None)
        verse, refused = self._held(number, before) or self._verse(item, number)
        text = verse.text
        if before is None:
            return Round(draft=text, breaches=breaches(text, asked.form))
        said = [said for said in (before.critique, before.revision_brief) if said]
        change = changes(before.draft, text, *said)
        worse = tuple(f"it lost {what}" for what in change.lost)
        if refused:
            worse = (f"asked {1 + REASKS} times, the poet broke the revision brief: {refused}",)
        return Round(
            draft=text,
            refused=refused,
            breaches=breaches(text, asked.form),
            changes=change,
            worse=worse,
        )

    def _held(self, number: int, before: Round | None) -> tuple[Verse, str] | None:
        """The revision that the folder has from this poet, refused as often as it is asked for."""
        if before is None or not self.past or len(self.past.rounds) < number:
            return None
        held, revised = self.past.rounds[number - 1], self.past.rounds[number - 2]
        same = (revised.draft, revised.revision_brief) == (before.draft, before.revision_brief)
        if held.refused and same and self.past.poet == self.session.poet:
            return Verse(text=held.draft), held.refused
        return None

    def _verse(self, item: BriefItem, number: int) -> tuple[Verse, str | None]:
        """A poem; with the reason where it is one, but the task refused it as a revision."""
        request = self.session.request

        def check(item: BriefItem, result: Verse) -> str | None:
            return poem_task.accept(item, result) or wrong_language(
                request, item.brief, result.text
            )

        task = replace(poem_task, check=check)
        if _system(self.shop.poet, self.shop.poet_system, task.name) == "persona":
            task = replace(task, max_tokens=_LONGEST_POEM)
        try:
            return self._ask(task, item, number), None
        except _NoAnswer as error:
            # As a first draft it would be no use; as a revision it shows that the poet is stuck.
            text = bare_text(error.said)
            poem = classify(text, item.brief.text()).clean and not wrong_language(
                request, item.brief, text
            )
            if item.draft and error.kind == "rejected" and poem:
                return Verse(text=text), error.reason
            raise

    def _read(self, number: int, asked: Brief, draft: Round, before: Round | None) -> Round:
        """The draft with its critique, and whether that makes it worse than the one before."""
        item = PoemItem(poem=_poem(draft.draft), brief=_plain(asked))
        draft = draft.model_copy(update={"critique": self._ask(critique_task, item, number)})
        if before and len(draft.defects) > len(before.defects):
            more = f"{len(draft.defects)} things in it must be fixed, after {len(before.defects)}"
            draft = draft.model_copy(update={"worse": (f"{more}: {'; '.join(draft.defects)}",)})
        best = self.session.best if draft.worse else number
        self._keep(critique_task, number, rounds=(*self.session.rounds[:-1], draft), best=best)
        return draft

    def _revise(self, number: int, asked: Brief, draft: Round) -> RevisionBrief:
        """The brief for the next draft; what was measured stands in the critique that it reads."""
        critique = draft.to_mend()
        item = RevisionItem(poem=_poem(draft.draft), critique=critique, brief=_plain(asked))
        brief = self._ask(revision_task, item, number)
        draft = draft.model_copy(update={"revision_brief": brief})
        self._keep(revision_task, number, rounds=(*self.session.rounds[:-1], draft))
        return brief

    def _ask(self, task: PromptTask[In, Out], item: In, number: int) -> Out:
        """The answer of the one whose task it is.

        Raises:
            WorkshopError: There is none of use.
        """
        poet = task.role == "poet"
        backend = self.shop.poet if poet else self.shop.educator
        wanted = self.shop.poet_system if poet else self.shop.educator_system
        system = _system(backend, wanted, task.name)
        self.tell(Step(task.name, number, backend.id))
        times = 0
        for _ in range(1 + REASKS):
            todo = plan(task, [item], backend, ledger=self.ledger, system=system)
            run = generate(todo, budget=self.left, progress=False)
            self.left = max(0.0, self.left - run.cost - run.held)
            times += run.rows[0].attempts
            error = run.rows[0].error
            # What was cut a run does not ask again; but a poet's next draw may come to an end.
            if not error or error.kind != "truncated":
                break
        if error and error.kind == "budget":
            raise _OutOfBudget(
                f"the budget of ${self.budget:,.2f} is used up: of the ${self.left:,.2f} that are "
                f"left the {task.name.replace('_', ' ')} may cost more"
            )
        answers: list[Out] = [answer for _, answer in run.answers()]
        if answers:
            return answers[0]
        raise _NoAnswer(task.name, number, backend.id, run.rows[0], times)

    def _keep(self, task: PromptTask[Any, Any], number: int, **answered: Any) -> None:
        """Puts an answer into the session, writes it down, and tells of it."""
        self._update(**answered)
        by = self.shop.poet.id if task.role == "poet" else self.shop.educator.id
        self.tell(Step(task.name, number, by, self.session))

    def _end(self, stopped: Stopped, why: str) -> None:
        measured = [one.breaches is not None for one in self.session.rounds]
        if not all(measured):
            why += " Its form was not measured: pip install 'versecraft[prosody]'."
        self._update(stopped=stopped, why_stopped=why)

    def _update(self, **facts: Any) -> None:
        rows = read_rows(self.ledger)[0]
        models = dict.fromkeys(row.model for row in rows if row.model and row.output)
        held = {name: getattr(self.session, name) for name in Session.model_fields}
        held |= {"models": tuple(models), "cost": sum(row.cost for row in rows), **facts}
        # Validated anew: a session that claims more than it holds cannot be made.
        self.session = Session(**held)
        self.session.write(self.folder)

    def _error(self, stop: _NoAnswer | _OutOfBudget) -> WorkshopError:
        """What went wrong, and what to do."""
        self._update()
        again = f"call write again with into={str(self.folder)!r}: nothing answered is asked again"
        if isinstance(stop, _OutOfBudget):
            return WorkshopError(
                f"There is no draft yet: {stop}. Give more, and {again}.", self.session
            )
        return WorkshopError(
            f"{stop}. {_REMEDIES.get(stop.kind, _ELSE)}, and {again}.", self.session
        )


def _poem(text: str) -> Poem:
    return Poem(text=text, quality="bad")  # as everything that is to be revised; no turn shows it


def _plain(brief: Brief) -> Brief:
    """A revision brief as the brief that a draft is held against."""
    return Brief(**{name: getattr(brief, name) for name in Brief.model_fields})


def _system(backend: object, wanted: System | None, task: str) -> System:
    path = getattr(backend, "path", None)
    knows = isinstance(path, Path) and task in learnt(path)
    return wanted or ("persona" if knows else "guide")

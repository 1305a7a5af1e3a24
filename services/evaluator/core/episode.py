"""Whether a group's alert is open, from window to window."""

from dataclasses import dataclass

from services.evaluator.core.transition import State, Transition


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """The last step of a group, and the first window whose end has not been judged since."""

    last: Transition
    undecided_ns: int

    @classmethod
    def after(cls, transition: Transition) -> "Episode":
        """Go on from a step that has just been taken."""
        return cls(last=transition, undecided_ns=transition.window.start_ns)

    @property
    def is_open(self) -> bool:
        """Whether the alert is open."""
        return self.last.state is State.FIRING

    def held_through(self, next_ns: int) -> "Episode":
        """Go on with the next window: the alert stays open."""
        return Episode(last=self.last, undecided_ns=max(self.undecided_ns, next_ns))


def may_fire(episode: Episode | None, window_ns: int) -> bool:
    """Whether a window that meets the condition begins an alert.

    Not while one is open: it covers later windows, and earlier ones that come late. And not when the last one ended in
    that window or after it, so neither a replay nor a rule that is switched on again tells a window twice.
    """
    return episode is None or (not episode.is_open and window_ns > episode.last.window.start_ns)

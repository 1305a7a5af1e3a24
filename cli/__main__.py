"""Where the tocsin command begins: Ctrl-C is quiet from here on, also while the rest is imported, which takes a moment.

A shell that completes a word starts the command at each Tab, and whoever waits presses Ctrl-C.
"""

import gc
import os
import signal

_COMPLETES = "_TOCSIN_COMPLETE"


def main() -> None:
    """Run the command."""
    # Ignored in the background of a script; then it stays so.
    is_taken = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_taken:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Modules stay: to collect garbage meanwhile takes a tenth of the time.
    gc.disable()
    from cli.main import main as run  # noqa: PLC0415 - the import is what has to be quiet

    gc.freeze()
    gc.enable()

    if is_taken and _COMPLETES not in os.environ:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()

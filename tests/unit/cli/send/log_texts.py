"""Texts of files that tests send."""

MIXED = """\
2026-11-27 10:00:00 ERROR boom
  at f()
2026-11-27 10:00:01 started
{"level":"sev5","message":"odd","time":"2026-11-27T10:00:02Z","traceId":"a3ce929d0e0e4736","status":1006}
WARN: no time
2026-11-27 10:00:03 INFO fine
"""

OLD = "2005-12-04 04:47:44 ERROR old\n" * 3000 + "2005-12-04 04:47:54 ERROR last\n"

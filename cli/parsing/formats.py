"""The usual formats of log lines, as data: their names, which programs write them, an example, and a pattern."""

import re

from cli.parsing.format_types import KEY, VALUE, DockerFormat, JsonFormat, LineFormat, LogfmtFormat, W3cFormat
from cli.parsing.time_level import TimeLevelFormat
from cli.parsing.timestamps import ISO
from services.domain.level import Level

_LEVEL = "TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|SEVERE|CRITICAL|FATAL"
_LOGGER_KEY = r"(?:time|ts|timestamp|level|lvl|severity|msg|message|at)="
_NOT_A_LEVEL = rf"(?!(?i:{_LEVEL}|LOG)\b)"

TIME_LEVEL = TimeLevelFormat(
    name="time-level",
    pattern=re.compile(""),
    writers="most others: log4j, logback, log4net, NLog, Serilog, Python, Go, Rust, Ruby, loguru, Celery, Spring Boot, "
    "Elasticsearch, RabbitMQ, MySQL, Hadoop, the error logs of Apache and nginx",
    example="2026-11-27 10:00:00,123 [main] ERROR c.e.App - no space left",
)

# The more specific ones first: of formats that match equally many lines, the first is tried first.
FORMATS: tuple[LineFormat, ...] = (
    JsonFormat(
        name="json",
        pattern=re.compile(r"\s*+\{.*"),
        writers="loggers of every language, ECS, OpenTelemetry, Google Cloud, journald, MongoDB, PostgreSQL's jsonlog",
        example='{"timestamp":"2026-11-27T10:00:00Z","level":"error","message":"no space left"}',
    ),
    LineFormat(
        name="openstack",
        writers="OpenStack",
        example="2026-11-27 10:00:00.123 42 ERROR nova.compute [req-1 - -] no space left",
        pattern=re.compile(
            r"(?:(?P<service>[\w-]+)\.log\S* )?(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) (?P<pid>\d+) "
            rf"(?P<level>{_LEVEL}) (?P<logger>\S+) \[(?P<request>[^\]]*)\] (?P<message>.*)"
        ),
        within=(
            "message",
            re.compile(r"status: (?P<status_code>\d{3}) len: (?P<bytes>\d+) time: (?P<response_seconds>[\d.]+)"),
        ),
    ),
    LineFormat(
        name="bluegene",
        writers="BlueGene/L",
        example="- 1795773600 2026.11.27 R02 2026-11-27-10.00.00.123456 R02 RAS KERNEL FATAL parity error",
        pattern=re.compile(
            r"(?P<label>\S+) (?P<epoch>\d{10}) \d{4}\.\d\d\.\d\d (?P<host>\S+) "
            r"(?P<time>\d{4}-\d\d-\d\d-\d\d\.\d\d\.\d\d\.\d{6}) \S+ (?P<facility>\S+) (?P<service>\S+) "
            r"(?P<level>[A-Z]+) ?(?P<message>.*)"
        ),
    ),
    LineFormat(
        name="postgresql",
        writers="PostgreSQL, with any prefix that begins with the time",
        example="2026-11-27 10:00:00.123 UTC [42]: user=ann,db=shop,app=my shop ERROR:  no space left",
        pattern=re.compile(
            rf"(?P<time>{ISO})[ :](?:\[(?P<pid>\d+)\]:? ?)?(?P<prefix>.{{0,300}}?) ?\b"
            r"(?P<level>LOG|ERROR|FATAL|PANIC|WARNING|NOTICE|INFO|DEBUG[1-5]|STATEMENT|DETAIL|HINT|CONTEXT|QUERY):"
            r"(?:  |$)(?P<message>.*)"
        ),
        within=("prefix", re.compile(r"\buser=(?P<user>[^,]*),db=(?P<database>[^, ]*)")),
    ),
    LineFormat(
        name="redis",
        writers="Redis, Valkey",
        example="42:M 27 Nov 2026 10:00:00.123 # no space left",
        pattern=re.compile(
            r"(?P<pid>\d+):(?:(?P<role>[XCSM]) |signal-handler \()"
            r"(?P<time>\d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d\.\d{3}|\d{10})\)? (?:(?P<level>[-.*#]) )?(?P<message>.*)"
        ),
    ),
    LineFormat(
        name="access",
        writers="Apache, nginx, Traefik, gunicorn, Django; a virtual host before, anything after",
        example='192.0.2.1 - ann [27/Nov/2026:10:00:00 +0000] "GET /cart HTTP/1.1" 503 19 "-" "curl"',
        level=Level.INFO,
        continues=False,
        pattern=re.compile(
            r"(?:(?:(?P<vhost>\S+) (?=[\da-fA-F.:]{2,45} ))?"
            r"(?P<client>\S+) \S+ (?P<user>[^\[\]\"]{1,256}?) )?"
            r"\[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}[: ][\d:.]{8,15}(?: [+-]\d{4})?)\] "
            r'(?P<message>"(?:[^"\\]|\\.)*+" (?P<status_code>\d{3}|-) (?P<bytes>\d+|-).*)'
        ),
        within=("message", re.compile(r'^"(?P<method>[A-Z][A-Z-]*) (?P<path>[^\s"]+)')),
    ),
    LineFormat(
        name="haproxy",
        writers="HAProxy's HTTP log, behind syslog or alone",
        example='192.0.2.1:42 [27/Nov/2026:10:00:00.123] web shop/s1 0/0/1/2/3 503 19 - - ---- 1/1 0/0 "GET /"',
        level=Level.INFO,
        continues=False,
        pattern=re.compile(
            r"(?P<client>\S+):\d+ \[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:[\d:.]+)\] (?P<message>(?P<frontend>\S+) "
            r"(?P<backend>[^\s/]+)/(?P<server>\S+) (?:-?\d+/)+\+?(?P<response_time>\d+) (?P<status_code>-?\d+) .*)"
        ),
    ),
    LineFormat(
        name="alb",
        writers="AWS's Application Load Balancer",
        example="http 2026-11-27T10:00:00.1Z app/lb/1 192.0.2.1:42 10.0.0.1:80 0.0 0.1 0.0 503 503 1 2 …",
        level=Level.INFO,
        continues=False,
        pattern=re.compile(
            r"(?:https?|h2|grpcs|wss?) (?P<time>\d{4}-\S+Z) (?P<balancer>\S+) (?P<client>\S+):\d+ (?P<target>\S+) "
            r"[\d.-]+ (?P<response_seconds>[\d.-]+) [\d.-]+ (?P<status_code>\d{3}|-) (?P<message>.*)"
        ),
    ),
    W3cFormat(
        name="w3c",
        writers="IIS and others with a #Fields line",
        example="#Fields: date time c-ip cs-method cs-uri-stem sc-status time-taken",
        level=Level.INFO,
        continues=False,
        pattern=re.compile(r"#(?:Software|Version|Date|Fields|Start-Date|End-Date|Remark): "),
    ),
    LineFormat(
        name="syslog-5424",
        writers="syslog as in RFC 5424",
        example='<11>1 2026-11-27T10:00:00.003Z web-1 shop 42 - [id@1 a="b"] no space left',
        continues=False,
        pattern=re.compile(
            rf"<(?P<priority>\d{{1,3}})>\d{{1,2}} (?:-|(?P<time>{ISO})) (?:-|(?P<host>\S+)) (?:-|(?P<service>\S+)) "
            r"(?:-|(?P<pid>\S+)) (?:-|(?P<message_id>\S+)) (?:-|(?P<structured_data>(?:\[(?:[^\]\\]|\\.)*+\])++))"
            r"(?: \ufeff?(?P<message>.*))?"
        ),
    ),
    LineFormat(
        name="klog",
        writers="Kubernetes, glog, CockroachDB",
        example="E1127 10:00:00.123456       1 reflector.go:138] no space left",
        pattern=re.compile(
            r"(?P<level>[IWEF])(?P<time>(?:\d\d|\d{4})?\d{4} \d\d:\d\d:\d\d\.\d{6})\s+(?P<thread>\d+) "
            r"(?P<source>[^\s\]]+:\d+)\]? (?P<message>.*)"
        ),
    ),
    LogfmtFormat(
        name="logfmt",
        writers="Go's loggers, Heroku, Grafana's programs",
        example='time=2026-11-27T10:00:00Z level=error msg="no space left" service=shop',
        pattern=re.compile(rf"(?=(?:.*\s)?{_LOGGER_KEY})\s*{KEY}={VALUE}(?:\s++{KEY}(?:={VALUE})?)*+\s*"),
    ),
    LineFormat(
        name="syslog",
        writers="syslog as in RFC 3164, rsyslog, journalctl",
        example="Nov 27 10:00:00 web-1 shop[42]: error: no space left",
        continues=False,
        pattern=re.compile(
            r"(?:<(?P<priority>\d{1,3})>1? ?)?"
            rf"(?P<time>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{{1,6}})?|(?=\S{{22}}){ISO}|\d{{10}}\.\d{{6}}) "
            # The log of the machine itself may name no host, and Heroku names none.
            rf"(?:{_NOT_A_LEVEL}(?P<host>[\w.:-]+) |(?<=[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d )"
            r"|(?=[a-z]+\[[\w.]+\]: ))"
            rf"{_NOT_A_LEVEL}(?P<service>[\w./@-]+)(?:\[(?P<pid>[\w.]+)\])?: "
            r"(?P<message>.*)"
        ),
    ),
    TIME_LEVEL,
)

# What container runtimes put around the lines of a program, which are parsed as if they stood alone.
CONTAINER_FORMATS = (
    LineFormat(
        name="cri",
        writers="Kubernetes' containers (CRI)",
        example="2026-11-27T10:00:00.1Z stderr F ERROR: no space left",
        pattern=re.compile(rf"(?P<time>{ISO}) (?P<stream>stdout|stderr) (?P<part>[FP])[\w:]* ?(?P<message>.*)"),
    ),
    DockerFormat(
        name="docker",
        writers="Docker's json-file driver",
        example='{"log":"ERROR: no space left\\n","stream":"stderr","time":"2026-11-27T10:00:00.1Z"}',
        pattern=re.compile(r"\{.*"),
    ),
    LineFormat(
        name="compose",
        writers="docker compose logs",
        example="web-1  | ERROR: no space left",
        pattern=re.compile(r"(?P<service>[A-Za-z][\w.-]*?)(?P<stream>[-_]\d+) +\| ?(?P<message>.*)"),
    ),
)


_OTHER_GROUP = re.compile(r"\(\?<[A-Za-z_]")


def custom_format(pattern: str) -> LineFormat:
    """Return a format by a pattern of the user's, which is searched for anywhere in a line.

    Raises ValueError when the pattern is invalid or has no group for the message.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        # Other languages write it without the P.
        hint = "; a named group is (?P<name>...)" if _OTHER_GROUP.search(pattern) else ""
        raise ValueError(f"not a regular expression: {error}{hint}") from None
    if "message" not in compiled.groupindex:
        raise ValueError("the pattern must have a group named message: (?P<message>...)")
    return LineFormat(name="custom", pattern=compiled, is_whole=False, level=Level.INFO)

"""Lines of the usual programs and loggers: time, level and message of each are parsed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.domain.level import Level
from tests.unit.cli.parsing.log_lines import event_of

TEN = datetime(2026, 11, 27, 10, 0, tzinfo=UTC)

# An ERROR of ten o'clock (and the fraction that the line has) whose message is "boom", where nothing else is said.
LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "log4j": ("[2026-11-27 10:00:00,123] ERROR boom (kafka.log.Cleaner)", {"message": "boom (kafka.log.Cleaner)"}),
    "log4j2": ("2026-11-27 10:00:00,123 [main] ERROR c.e.App - boom", {"logger": "c.e.App", "thread": "main"}),
    "log4j2, default": ("10:00:00.123 [main] ERROR c.e.App - boom", {"logger": "c.e.App"}),
    "logback": ("10:00:00.123 [http-nio-1 x] ERROR c.e.App - boom", {"thread": "http-nio-1 x"}),
    "Spring Boot 2": ("2026-11-27 10:00:00.123 ERROR 42 --- [  main] c.e.App     : boom", {"logger": "c.e.App"}),
    "Spring Boot 3": ("2026-11-27T10:00:00.123Z ERROR 42 --- [shop] [  main] c.e.App : boom", {}),
    "java.util.logging": ("Nov 27, 2026 10:00:00 AM c.e.App run", {"level": Level.INFO, "message": "c.e.App run"}),
    "Tomcat": ("27-Nov-2026 10:00:00.123 SEVERE [main] o.a.C.start boom", {"message": "[main] o.a.C.start boom"}),
    "log4net": ("2026-11-27 10:00:00,123 [12] ERROR Ns.Class [(null)] - boom", {"logger": "Ns.Class", "pid": "12"}),
    "NLog": ("2026-11-27 10:00:00.1234|ERROR|Ns.Class|boom", {"logger": "Ns.Class"}),
    "NLog, level as it is": ("2026-11-27 10:00:00.1234|Error|Ns.Class|boom", {"logger": "Ns.Class"}),
    "Serilog": ("2026-11-27 10:00:00.123 +00:00 [ERR] boom", {}),
    "Serilog, console": ("[10:00:00 ERR] boom", {}),
    "Serilog, compact": ('{"@t":"2026-11-27T10:00:00.1Z","@m":"boom","@l":"Error"}', {}),
    "Serilog, compact, no level": ('{"@t":"2026-11-27T10:00:00.1Z","@m":"boom"}', {"level": Level.INFO}),
    ".NET": ("fail: Shop.Cart[0] boom", {"time": None, "message": "Shop.Cart[0] boom"}),
    "loguru": ("2026-11-27 10:00:00.123 | ERROR    | mod:fn:12 - boom", {"logger": "mod:fn:12"}),
    "loguru, success": ("2026-11-27 10:00:00.123 | SUCCESS  | mod:fn:12 - boom", {"level": Level.INFO}),
    "Python": ("2026-11-27 10:00:00,123 - app.db - ERROR - boom", {"logger": "app.db"}),
    "Python, one name": ("2026-11-27 10:00:00,123 root ERROR boom", {"logger": "root"}),
    "Python, basicConfig": ("ERROR:app.db:boom", {"time": None, "logger": "app.db"}),
    "Python, JSON": ('{"asctime":"2026-11-27 10:00:00,123","levelname":"ERROR","message":"boom","levelno":40}', {}),
    "structlog": ('{"event":"boom","level":"error","timestamp":"2026-11-27T10:00:00Z"}', {}),
    "Celery": ("[2026-11-27 10:00:00,123: ERROR/ForkPoolWorker-1] boom", {}),
    "Celery, task": (
        "[2026-11-27 10:00:00,123: ERROR/MainProcess] Task a[b] raised: boom",
        {"message": "Task a[b] raised: boom"},
    ),
    "Django": ("ERROR 2026-11-27 10:00:00,123 basehttp 42 123 boom", {"message": "basehttp 42 123 boom"}),
    "Django, runserver": ('[27/Nov/2026 10:00:00] "GET / HTTP/1.1" 500 12', {"level": Level.INFO, "status": 500}),
    "gunicorn": ("[2026-11-27 10:00:00 +0000] [42] [ERROR] boom", {"pid": "42"}),
    "uvicorn": ("ERROR:    boom", {"time": None}),
    "uvicorn, access": (
        'INFO:     192.0.2.1:42 - "GET / HTTP/1.1" 500 Internal',
        {"time": None, "level": Level.INFO, "status": 500},
    ),
    "tornado": ("[E 2026-11-27 10:00:00.123 ServerApp] boom", {"message": "ServerApp] boom"}),
    "Ruby": ("E, [2026-11-27T10:00:00.123456 #123] ERROR -- : boom", {}),
    "Ruby, program": ("E, [2026-11-27T10:00:00.123456 #123] ERROR -- shop: boom", {"message": "shop: boom"}),
    "Go's log": ("2026/11/27 10:00:00 ERROR boom k=v", {"message": "boom k=v"}),
    "slog, text": ("time=2026-11-27T10:00:00.123Z level=ERROR msg=boom k=v", {"k": "v"}),
    "slog, JSON": ('{"time":"2026-11-27T10:00:00.123Z","level":"ERROR","msg":"boom"}', {}),
    "slog, between": ('{"time":"2026-11-27T10:00:00.123Z","level":"ERROR+2","msg":"boom"}', {}),
    "zap": ('{"level":"error","ts":1795773600.123,"caller":"a.go:1","msg":"boom"}', {"caller": "a.go:1"}),
    "zap, dpanic": ('{"level":"dpanic","ts":1795773600,"msg":"boom"}', {"level": Level.FATAL}),
    "zap, exponent": ('{"level":"error","ts":1.7957736e+09,"msg":"boom"}', {}),
    "zap, console": ("2026-11-27T10:00:00.123Z\tERROR\tapp/file.go:12\tboom", {"logger": "app/file.go:12"}),
    "zerolog": ('{"level":"error","time":1795773600,"message":"boom"}', {}),
    "zerolog, console": ("2026-11-27T10:00:00Z ERR boom k=v", {"message": "boom k=v"}),
    "logrus": ('time="2026-11-27T10:00:00Z" level=error msg=boom', {}),
    "logrus, terminal": ("\x1b[31mERRO\x1b[0m[0000] boom", {"time": None, "message": "[0000] boom"}),
    "env_logger": ("[2026-11-27T10:00:00Z ERROR shop::db] boom", {"logger": "shop::db"}),
    "tracing": ("2026-11-27T10:00:00.123456Z ERROR shop::db: boom k=1", {"logger": "shop::db", "message": "boom k=1"}),
    "tracing, coloured": (
        "\x1b[2m2026-11-27T10:00:00.123456Z\x1b[0m \x1b[31mERROR\x1b[0m \x1b[2mshop::db\x1b[0m\x1b[2m:\x1b[0m boom",
        {"logger": "shop::db"},
    ),
    "tracing, JSON": ('{"timestamp":"2026-11-27T10:00:00Z","level":"ERROR","fields":{"message":"boom"}}', {}),
    "winston": ('{"level":"error","message":"boom","timestamp":"2026-11-27T10:00:00.1Z"}', {}),
    "winston, simple": ("error: boom", {"time": None}),
    "winston, printf": ("2026-11-27T10:00:00.123Z [shop] error: boom", {"thread": "shop"}),
    "pino": ('{"level":50,"time":1795773600123,"pid":1,"hostname":"h","msg":"boom"}', {"host": "h"}),
    "bunyan": ('{"name":"a","hostname":"h","level":50,"msg":"boom","time":"2026-11-27T10:00:00.1Z","v":0}', {}),
    "Rails, tagged": ("E, [2026-11-27T10:00:00.123456 #1] ERROR -- : [r1] boom", {"message": "[r1] boom"}),
    "Monolog": ("[2026-11-27T10:00:00.123456+00:00] app.ERROR: boom [] []", {"message": "boom [] []"}),
    "Monolog, JSON": ('{"message":"boom","level":400,"level_name":"ERROR","datetime":"2026-11-27T10:00:00+00:00"}', {}),
    "Laravel": ("[2026-11-27 10:00:00] production.ERROR: boom", {}),
    "PHP": ("[27-Nov-2026 10:00:00 UTC] PHP Fatal error:  boom", {"level": Level.FATAL, "message": "error:  boom"}),
    "coloured": ("2026-11-27 10:00:00 \x1b[31mERROR\x1b[0m boom", {}),
    "Elasticsearch": ("[2026-11-27T10:00:00,123][ERROR][o.e.B] boom", {"logger": "o.e.B"}),
    "Elasticsearch, wide": ("[2026-11-27T10:00:00,123][ERROR][o.e.B          ] [n-1] boom", {"message": "[n-1] boom"}),
    "RabbitMQ": ("2026-11-27 10:00:00.123456+00:00 [error] <0.1.0> boom", {"message": "<0.1.0> boom"}),
    "Kafka": (
        "[2026-11-27 10:00:00,123] ERROR [Broker id=1] boom (kafka.x.Y)",
        {"message": "[Broker id=1] boom (kafka.x.Y)"},
    ),
    "Zookeeper": ("2026-11-27 10:00:00,123 [myid:1] - ERROR [main:Quorum@123] - boom", {}),
    "Hadoop": ("2026-11-27 10:00:00,123 ERROR org.apache.hadoop.X: boom", {"logger": "org.apache.hadoop.X"}),
    "Spark": ("26/11/27 10:00:00 ERROR executor.Executor: boom", {"logger": "executor.Executor"}),
    "Cassandra": ("ERROR [main] 2026-11-27 10:00:00,123 Daemon.java:1 - boom", {"logger": "Daemon.java:1"}),
    "MySQL": ("2026-11-27T10:00:00.1Z 0 [ERROR] [MY-010119] [Server] boom", {"message": "[MY-010119] [Server] boom"}),
    "MySQL, note": ("2026-11-27T10:00:00.1Z 5 [Note] [MY-1] [Server] boom", {"level": Level.INFO, "message": None}),
    "MySQL, system": ("2026-11-27T10:00:00.1Z 0 [System] [MY-1] [Server] boom", {"level": Level.INFO, "message": None}),
    "MySQL, warning": (
        "2026-11-27T10:00:00.1Z 0 [Warning] [MY-1] [Server] boom",
        {"level": Level.WARN, "message": None},
    ),
    "MariaDB": ("2026-11-27 10:00:00 0 [ERROR] boom", {}),
    "PostgreSQL": ("2026-11-27 10:00:00.123 UTC [42] ERROR:  boom", {"pid": "42", "prefix": None}),
    "PostgreSQL, pgbadger": (
        "2026-11-27 10:00:00 UTC [42]: [1-1] user=u,db=d,app=a,client=::1 ERROR:  boom",
        {"user": "u", "database": "d", "pid": "42"},
    ),
    "PostgreSQL, app with spaces": (
        "2026-11-27 10:00:00 UTC [42]: [1-1] user=u,db=d,app=my ERROR app,client=[local] ERROR:  boom",
        {"user": "u"},
    ),
    "PostgreSQL, +03": ("2026-11-27 13:00:00 +03 [42] ERROR:  boom", {}),
    "PostgreSQL, user and database": (
        "2026-11-27 10:00:00.123 UTC [42] u@d ERROR:  boom",
        {"prefix": "u@d", "pid": "42"},
    ),
    "PostgreSQL, log": ("2026-11-27 10:00:00 UTC [42] LOG:  boom", {"level": Level.INFO}),
    "PostgreSQL, CSV": (
        '2026-11-27 10:00:00.123 UTC,"u","d",42,"[local]",6.1,1,"SELECT",,3/4,0,ERROR,42P01,"boom"',
        {"message": None},
    ),
    "PostgreSQL, JSON": ('{"timestamp":"2026-11-27 10:00:00.123 UTC","error_severity":"ERROR","message":"boom"}', {}),
    "MongoDB": (
        '{"t":{"$date":"2026-11-27T10:00:00.123+00:00"},"s":"E","c":"NETWORK","id":1,"ctx":"x","msg":"boom"}',
        {"logger": "NETWORK"},
    ),
    "Redis": ("42:M 27 Nov 2026 10:00:00.123 # boom", {"level": Level.WARN}),
    "nginx, access": (
        '192.0.2.1 - - [27/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 500 1',
        {"level": Level.INFO, "status": 500},
    ),
    "nginx, access, prefix": (
        'shop:443 192.0.2.1 - - [27/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 500 1 0.1',
        {"level": Level.INFO, "status": 500, "vhost": "shop:443"},
    ),
    "nginx, error": ("2026/11/27 10:00:00 [error] 42#7: *1 boom", {"message": "42#7: *1 boom"}),
    "Apache, error": ("[Fri Nov 27 10:00:00.123456 2026] [core:error] [pid 42] boom", {"message": "[pid 42] boom"}),
    "HAProxy": (
        "Nov 27 10:00:00 lb haproxy[1]: 192.0.2.1:42 [27/Nov/2026:10:00:00.123] web shop/s1 0/0/1/2/3 503 19 - - ----",
        {"level": Level.INFO, "status": 503, "backend": "shop", "service": "haproxy", "response_time": 3.0},
    ),
    "Traefik, CLF": (
        '192.0.2.1 - - [27/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 503 19 "-" "-" 1 "shop@docker" "http://x" 12ms',
        {"level": Level.INFO, "status": 503},
    ),
    "Traefik, JSON": (
        '{"DownstreamStatus":503,"Duration":12000000,"RequestMethod":"GET","level":"error","msg":"","time":"2026-11-27T10:00:00Z"}',
        {"status": 503, "response_time": 12.0, "message": None},
    ),
    "Caddy": ('{"level":"error","ts":1795773600.123,"logger":"http","msg":"boom"}', {"logger": "http"}),
    "AWS's balancer": (
        "https 2026-11-27T10:00:00.123456Z app/lb/1 192.0.2.1:42 10.0.0.1:80 0.0 0.012 0.0 503 503 34 366 -",
        {"level": Level.INFO, "status": 503, "response_time": 12.0},
    ),
    "journalctl -o short-iso": (
        "2026-11-27T10:00:00+0000 web-1 shop[42]: error: boom",
        {"service": "shop", "host": "web-1"},
    ),
    "journalctl, short-precise": ("Nov 27 10:00:00.123456 web-1 shop[42]: ERROR boom", {"service": "shop"}),
    "syslog": ("<11>Nov 27 10:00:00 web-1 shop[42]: boom", {"service": "shop", "pid": "42"}),
    "syslog, RFC 5424": ('<11>1 2026-11-27T10:00:00.003Z web-1 shop 42 - [a@1 b="\\]"] boom', {"service": "shop"}),
    "rsyslog": ("2026-11-27T10:00:00.123456+00:00 web-1 shop[42]: ERROR: boom", {"host": "web-1"}),
    "syslog, JSON in it": (
        'Nov 27 10:00:00 web-1 shop[42]: {"level":"error","msg":"boom","id":7}',
        {"service": "shop", "id": "7"},
    ),
    "syslog, logfmt in it": ("Nov 27 10:00:00 web-1 shop[42]: level=error msg=boom", {"service": "shop"}),
    "postfix": ("Nov 27 10:00:00 mx postfix/smtpd[42]: error: boom", {"service": "postfix/smtpd"}),
    "klog": ("E1127 10:00:00.123456       1 reflector.go:138] boom", {"source": "reflector.go:138"}),
    "logcat": ("11-27 10:00:00.123  1234  5678 E Tag: boom", {"message": "Tag: boom"}),
    "Heroku": ("at=error code=H12 msg=boom", {"time": None, "code": "H12"}),
    "logfmt, bare words": ("time=2026-11-27T10:00:00Z level=error msg=boom at once", {"message": "boom at once"}),
    "logfmt, bare key": ("time=2026-11-27T10:00:00Z level=error retry msg=boom", {"retry": "true"}),
    "logfmt, empty value": ("time=2026-11-27T10:00:00Z level=error user= msg=boom", {}),
    "CRI": ("2026-11-27T10:00:00.1Z stderr F ERROR: boom", {"stream": "stderr"}),
    "CRI, JSON in it": ('2026-11-27T10:00:00.1Z stderr F {"level":"error","msg":"boom"}', {}),
    "CRI, klog in it": ("2026-11-27T10:00:00.1Z stderr F E1127 10:00:00.100000 1 a.go:1] boom", {"source": "a.go:1"}),
    "CRI, logfmt in it": ("2026-11-27T10:00:00.1Z stderr F level=error msg=boom", {}),
    "CRI, logback in it": (
        "2026-11-27T10:00:00.1Z stdout F 11:00:00.100 [main] ERROR c.e.App - boom",
        {"logger": "c.e.App"},
    ),
    "docker": ('{"log":"ERROR: boom\\n","stream":"stderr","time":"2026-11-27T10:00:00.1Z"}', {"stream": "stderr"}),
    "docker, JSON in it": (
        '{"log":"{\\"level\\":\\"error\\",\\"msg\\":\\"boom\\"}\\n","stream":"stderr","time":"2026-11-27T10:00:00.1Z"}',
        {},
    ),
    "docker compose": ("web-1  | 2026-11-27T10:00:00Z ERROR boom", {"service": "web"}),
    "kubectl --timestamps": ('2026-11-27T10:00:00.1Z {"level":"error","msg":"boom"}', {}),
    "journald": (
        '{"MESSAGE":"boom","PRIORITY":"3","__REALTIME_TIMESTAMP":"1795773600123456","_HOSTNAME":"h"}',
        {"host": "h"},
    ),
    "journald, klog in it": (
        '{"MESSAGE":"E1127 10:00:00.100000 1 a.go:1] boom","PRIORITY":"6","__REALTIME_TIMESTAMP":"1795773600123456"}',
        {"source": "a.go:1"},
    ),
    "journald, a level in it": (
        '{"MESSAGE":"ERROR: boom","PRIORITY":"6","__REALTIME_TIMESTAMP":"1795773600123456","SYSLOG_IDENTIFIER":"shop"}',
        {"service": "shop"},
    ),
    "journald, bytes": ('{"MESSAGE":[98,111,111,109],"PRIORITY":"3","__REALTIME_TIMESTAMP":"1795773600123456"}', {}),
    "names in other case": ('{"Timestamp":"2026-11-27T10:00:00Z","Level":"Error","Message":"boom"}', {}),
    "ECS, dotted": (
        '{"@timestamp":"2026-11-27T10:00:00Z","log.level":"error","message":"boom","service.name":"shop","host.name":"h","trace.id":"0af7651916cd43dd8448eb211c80319c"}',
        {"service": "shop", "host": "h", "trace_id": "0af7651916cd43dd8448eb211c80319c"},
    ),
    "ECS, nested": (
        '{"@timestamp":"2026-11-27T10:00:00Z","log":{"level":"error"},"message":"boom","service":{"name":"shop"}}',
        {"service": "shop"},
    ),
    "OpenTelemetry": (
        '{"timestamp":"2026-11-27T10:00:00Z","severity_text":"ERROR","severity_number":17,"body":"boom"}',
        {},
    ),
    "OpenTelemetry, number": (
        '{"timeUnixNano":"1795773600000000000","severityNumber":17,"body":{"stringValue":"boom"}}',
        {},
    ),
    "Google Cloud": ('{"severity":"ERROR","timestamp":"2026-11-27T10:00:00Z","textPayload":"boom"}', {}),
    "Google Cloud, number": ('{"severity":500,"time":"2026-11-27T10:00:00Z","message":"boom"}', {}),
    "GELF": ('{"version":"1.1","host":"h","short_message":"boom","timestamp":1795773600.1,"level":3}', {"host": "h"}),
    "Logstash": ('{"@timestamp":"2026-11-27T10:00:00Z","level":"ERROR","level_value":40000,"message":"boom"}', {}),
    "collector": (
        '{"@timestamp":"2026-11-27T10:00:00Z","message":"2026-11-27 10:00:00 ERROR boom","agent":{"id":"x"}}',
        {},
    ),
    "coloured JSON": (r'{"level":"\u001b[31merror\u001b[39m","message":"boom","time":"2026-11-27T10:00:00Z"}', {}),
    "coloured in docker": (
        r'{"log":"\u001b[31mERROR\u001b[39m boom\n","stream":"stderr","time":"2026-11-27T10:00:00.1Z"}',
        {},
    ),
    "Jenkins": ("2026-11-27 10:00:00.123+0000 [id=1]\tERROR\thudson.X#run: boom", {"message": "hudson.X#run: boom"}),
    "Airflow": ("[2026-11-27T10:00:00.123+0000] {a.py:1} ERROR - boom", {"logger": "a.py:1"}),
    "Odoo": ("2026-11-27 10:00:00,123 42 ERROR db odoo.http: boom", {"message": "db odoo.http: boom", "pid": "42"}),
    "Envoy": ("[2026-11-27 10:00:00.123][12][error][config] [source/x.cc:1] boom", {"message": None}),
    "Envoy, access": (
        '[2026-11-27T10:00:00.123Z] "GET / HTTP/1.1" 503 UF 0 91 5 - "-" "curl"',
        {"level": Level.INFO, "status": 503},
    ),
    "ClickHouse": ("2026.11.27 10:00:00.123456 [ 42 ] {id} <Error> Foo: boom", {"message": "Foo: boom"}),
    "MongoDB, old": ("2026-11-27T10:00:00.123+0000 E NETWORK  [conn1] boom", {"message": "NETWORK  [conn1] boom"}),
    "Sidekiq": ("2026-11-27T10:00:00.123Z pid=42 tid=abc class=X ERROR: boom", {}),
    "GitHub": ("2026-11-27T10:00:00.1234567Z ##[error]boom", {}),
    "Gin": ('[GIN] 2026/11/27 - 10:00:00 | 503 | 12.3ms | GET "/x"', {"level": Level.INFO, "message": None}),
    "SQUID": ("1795773600.123    45 192.0.2.1 TCP_MISS/503 1234 GET", {"level": Level.INFO, "message": None}),
    "syslog, no host": ("<27>Nov 27 10:00:00 shop[1]: boom", {"service": "shop", "pid": "1"}),
    "journalctl, short-unix": ("1795773600.123456 web-1 shop[1]: ERROR boom", {"service": "shop"}),
    "date": ("Fri Nov 27 10:00:00 UTC 2026 ERROR boom", {}),
    "German": ("27.11.2026 10:00:00 ERROR boom", {}),
    "underscore": ("2026-11-27_10:00:00 ERROR boom", {}),
    "log4j2, JSON": (
        '{"instant":{"epochSecond":1795773600,"nanoOfSecond":1},"level":"ERROR","message":"boom"}',
        {"instant.nanoOfSecond": "1"},
    ),
    "level by name and number": (
        '{"date":"2026-11-27T10:00:00Z","level":{"name":"error","value":50},"msg":"boom"}',
        {},
    ),
    "PHP, parse error": ("[27-Nov-2026 10:00:00 UTC] PHP Parse error:  boom", {"message": "PHP Parse error:  boom"}),
    "Laravel, emergency": ("[2026-11-27 10:00:00] production.EMERGENCY: boom", {"level": Level.FATAL}),
    "Laravel, alert": ("[2026-11-27 10:00:00] production.ALERT: boom", {"level": Level.FATAL}),
    "Heroku's router": (
        '2026-11-27T10:00:00.123456+00:00 heroku[router]: at=error code=H12 msg="boom" status=503',
        {"service": "heroku", "pid": "router", "status": 503},
    ),
    "Heroku's dyno": ("2026-11-27T10:00:00.123456+00:00 app[web.1]: [ERROR] boom", {"service": "app"}),
    "dmesg --decode": ("kern  :err   : [Fri Nov 27 10:00:00 2026] boom", {}),
    "Windows, tabs": (
        "Error\t11/27/2026 10:00:00 AM\tDisk\t7\tNone\tboom",
        {"logger": "Disk", "message": "7\tNone\tboom"},
    ),
    "Windows, CSV": ("Critical,11/27/2026 10:00:00 AM,Disk,7,None,boom", {"level": Level.FATAL, "message": None}),
    "SQL Server": ("2026-11-27 10:00:00.12 spid51      Error: boom", {}),
    "etcd, old": ("2026-11-27 10:00:00.123456 E | rafthttp: boom", {"message": "rafthttp: boom"}),
    "Passenger": ("[ E 2026-11-27 10:00:00.1234 42/T1 x.cpp:1 ]: boom", {"message": "42/T1 x.cpp:1 ]: boom"}),
    "Minecraft": ("[10:00:00] [Server thread/ERROR]: boom", {"message": None}),
    "Ansible": ("2026-11-27 10:00:00,123 p=42 u=ann n=ansible | fatal: boom", {"level": Level.FATAL, "message": None}),
    "unbound": ("[1795773600] unbound[42:0] error: boom", {}),
    "Mosquitto": ("1795773600: Error: boom", {}),
    "seconds since 1970": ("1795773600 ERROR boom", {}),
    "milliseconds since 1970": ("1795773600123 ERROR boom", {}),
    "NestJS": ("[Nest] 42  - 11/27/2026, 10:00:00 AM   ERROR [App] boom", {"message": "[App] boom"}),
    "RabbitMQ, old": ("=ERROR REPORT==== 27-Nov-2026::10:00:00 ===", {"message": None}),
    "zerolog, console, as it is": ("10:00AM ERR boom", {}),
    "Redis, signal": (
        "42:signal-handler (1795773600) boom",
        {"level": Level.INFO, "pid": "42"},
    ),
    "CockroachDB": ("E261127 10:00:00.123456 42 a.go:12 \u22ee [n1] 42  boom", {"source": "a.go:12", "message": None}),
    "glog with a year": ("E20261127 10:00:00.123456    42 a.cc:12] boom", {"source": "a.cc:12"}),
    "ISO, basic": ("20261127T100000Z ERROR boom", {}),
    "date of digits": ("20261127 10:00:00.123 ERROR boom", {}),
    "apt": ("E: boom", {"time": None}),
    "cut JSON": ('2026-11-27T10:00:00Z {"level":"error","msg":"boo', {"message": None}),
}


@pytest.mark.parametrize("name", LINES)
def test_time_level_and_message_of_a_line_are_parsed(name: str) -> None:
    line, expected = LINES[name]
    event = event_of(line)
    wanted = dict(expected)
    assert event.level is wanted.pop("level", Level.ERROR)
    message = wanted.pop("message", "boom" if "status" not in wanted else None)
    assert message is None or event.message == message
    time = wanted.pop("time", TEN)
    if time is None:
        assert event.event_time is None
    else:
        assert event.event_time is not None
        assert timedelta() <= event.event_time - time < timedelta(seconds=1)
    status = wanted.pop("status", None)
    assert event.status_code == status
    for field in ("service", "host", "trace_id", "response_time"):
        if field in wanted:
            assert getattr(event, field) == wanted.pop(field)
    assert {field: event.attributes.get(field) for field in wanted} == wanted

from services.chassis import telemetry
from services.chassis.health import Health, observe_dependencies


def test_it_serves_only_when_ready_and_everything_required_is_up() -> None:
    health = Health("test")
    kafka, redis = health.dependency("kafka"), health.dependency("redis", required=False)
    assert health.snapshot().reasons["service"] == "starting"
    health.mark_ready()
    assert not health.snapshot().is_serving
    kafka.up()
    assert health.snapshot().is_serving
    assert health.snapshot().dependencies == {"kafka": "UP", "redis": "DOWN"}
    assert health.snapshot().status == "DEGRADED"
    assert health.snapshot().reasons == {"redis": "not reached yet"}
    redis.up()
    assert (health.snapshot().status, health.snapshot().reasons) == ("SERVING", {})
    kafka.down("gone")
    assert health.snapshot().status == "NOT_SERVING"
    assert health.snapshot().reasons == {"kafka": "gone"}
    kafka.up()
    health.mark_stopping()
    assert not health.snapshot().is_serving
    assert health.snapshot().reasons == {"service": "stopping"}


def test_work_that_keeps_failing_degrades_and_says_which() -> None:
    health = Health("test")
    postgres = health.dependency("postgres")
    postgres.up()
    health.mark_ready()
    health.mark_failing("retention", "postgres")
    assert (health.snapshot().status, health.snapshot().dependencies) == ("DEGRADED", {"postgres": "DOWN"})
    assert health.snapshot().reasons == {"postgres": "retention fails again and again"}
    health.mark_failing("poll", "poll")
    assert health.snapshot().dependencies == {"postgres": "DOWN", "poll": "DOWN"}
    postgres.down("away")
    assert health.snapshot().reasons["postgres"] == "away"
    postgres.up()
    health.mark_working("retention")
    health.mark_working("poll")
    assert health.snapshot().status == "SERVING"


def test_a_dependency_with_two_users_is_up_when_it_is_up_for_both() -> None:
    health = Health("test")
    reads, writes = health.dependency("kafka"), health.dependency("kafka")
    health.mark_ready()
    reads.up()
    assert health.snapshot().dependencies == {"kafka": "DOWN"}
    assert not health.snapshot().is_serving
    writes.up()
    assert health.snapshot().dependencies == {"kafka": "UP"}


def test_subscribers_are_notified_of_changes_only() -> None:
    health = Health("test")
    kafka = health.dependency("kafka")
    reported: list[bool] = []
    health.subscribe(lambda: reported.append(health.snapshot().is_serving))
    health.mark_ready()
    kafka.up()
    kafka.up()
    kafka.down("one reason")
    kafka.down("another reason")
    assert reported == [False, True, False]
    assert kafka.reason == "another reason"


def test_metrics_say_what_is_down() -> None:
    health = Health("test")
    health.dependency("kafka").up()
    first, second = health.dependency("postgres"), health.dependency("postgres")
    with telemetry.telemetry("test", "1", ""):
        observe_dependencies(health)
        assert exposed() == {"kafka": 1, "postgres": 0}
        first.up()
        second.up()
        assert exposed() == {"kafka": 1, "postgres": 1}


def exposed() -> dict[str, float]:
    lines = telemetry.exposition()[0].decode().splitlines()
    samples = [line.rsplit(" ", 1) for line in lines if line.startswith("tocsin_dependency_up{")]
    return {name.split('"')[1]: float(value) for name, value in samples}

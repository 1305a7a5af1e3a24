from services.chassis.health import Health


def test_it_serves_only_when_ready_and_everything_required_is_up() -> None:
    health = Health("test")
    kafka, redis = health.dependency("kafka"), health.dependency("redis", required=False)
    health.mark_ready()
    assert not health.snapshot().is_serving
    kafka.up()
    assert health.snapshot().is_serving
    assert health.snapshot().dependencies == {"kafka": "UP", "redis": "DOWN"}
    redis.up()
    kafka.down("gone")
    assert health.snapshot().status == "NOT_SERVING"
    kafka.up()
    health.mark_stopping()
    assert not health.snapshot().is_serving


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

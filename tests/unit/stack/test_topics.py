import pytest

from services.chassis.settings import KafkaSettings, Secret
from stack.program import StartError
from stack.topics import tool_settings


def test_tools_log_in_at_kafka_as_their_variables_say() -> None:
    environ = {
        "TOCSIN_KAFKA": "elsewhere:1",
        "TOCSIN_KAFKA_CA": "ca.pem",
        "TOCSIN_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "TOCSIN_KAFKA_SASL_USER": "tools",
        "TOCSIN_KAFKA_SASL_PASSWORD": "p",
    }
    assert tool_settings("h:1", "t.", environ) == KafkaSettings(
        brokers="h:1",
        topic_prefix="t.",
        kafka_ca="ca.pem",
        kafka_sasl_mechanism="SCRAM-SHA-512",
        kafka_sasl_user="tools",
        kafka_sasl_password=Secret("p"),
    )
    assert tool_settings("h:1", environ={"TOCSIN_BROKERS": "other"}) == KafkaSettings(brokers="h:1")


def test_a_wrong_variable_of_the_tools_is_named() -> None:
    with pytest.raises(StartError, match=r"^TOCSIN_KAFKA_VERIFY_HOST_NAME must be true or false$"):
        tool_settings("h:1", environ={"TOCSIN_KAFKA_VERIFY_HOST_NAME": "maybe"})

"""librdkafka by its C API, for what confluent-kafka does not offer: what other clients write, and faults."""

import ctypes
from pathlib import Path

import confluent_kafka

# librdkafka's rdkafka.h: RD_KAFKA_PRODUCER, RD_KAFKA_MSG_F_COPY, and the tags of rd_kafka_producev
_PRODUCER, _COPY = 0, 2
_END, _TOPIC, _VALUE, _MSGFLAGS, _HEADERS = 0, 1, 4, 7, 10


def produce(bootstrap_servers: str, topic: str, value: bytes, header_name: bytes) -> None:
    """Write a message with one header, whose name may be any bytes, and wait until it is in the topic."""
    lib = _librdkafka()
    error = ctypes.create_string_buffer(512)
    config = ctypes.c_void_p(lib.rd_kafka_conf_new())
    lib.rd_kafka_conf_set(config, b"bootstrap.servers", bootstrap_servers.encode(), error, len(error))
    handle = ctypes.c_void_p(lib.rd_kafka_new(_PRODUCER, config, error, len(error)))
    assert handle, error.value
    headers = ctypes.c_void_p(lib.rd_kafka_headers_new(1))
    lib.rd_kafka_header_add(
        headers, header_name, ctypes.c_ssize_t(len(header_name)), b"value", ctypes.c_ssize_t(len(b"value"))
    )
    fault = lib.rd_kafka_producev(
        handle,
        *(_TOPIC, ctypes.c_char_p(topic.encode())),
        *(_VALUE, ctypes.c_char_p(value), ctypes.c_size_t(len(value))),
        *(_MSGFLAGS, _COPY),
        *(_HEADERS, headers),
        _END,
    )
    assert fault == 0, fault
    assert lib.rd_kafka_flush(handle, 20_000) == 0
    lib.rd_kafka_destroy(handle)


def fail_for_good(producer: confluent_kafka.Producer) -> None:
    """Let the producer fail as after an error from which none recovers, by librdkafka's own hook for tests."""
    lib = _librdkafka()
    handle = ctypes.c_void_p.from_address(id(producer) + object.__basicsize__)  # the first field of the C struct
    out_of_order = confluent_kafka.KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert lib.rd_kafka_test_fatal_error(handle, out_of_order, b"by a test") == 0


def _librdkafka() -> ctypes.CDLL:
    """Return the library that confluent-kafka's wheel brings."""
    [path] = (Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs").glob("librdkafka-*")
    lib = ctypes.CDLL(str(path))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(lib, name).restype = ctypes.c_void_p
    return lib

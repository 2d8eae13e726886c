"""Sparkplug B's payload (Eclipse Sparkplug 3.0, section 6.4), as far as an edge node uses it.

The message types are made at run time from the numbers that the specification gives its fields; so
they suit whichever version of protobuf is installed, and no generated code is shipped. Fields that
are not named here (templates, data sets, properties) are kept by protobuf as unknown.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

Value: TypeAlias = bool | int | float | str | None
_PACKAGE = "auscult.sparkplug"


class DataType(IntEnum):
    """Indexes of data types (table 6.4.16); those that are used here."""

    INT64 = 4
    FLOAT = 9
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13


_MEMBER = {
    DataType.INT64: "long_value",
    DataType.FLOAT: "float_value",
    DataType.BOOLEAN: "boolean_value",
    DataType.STRING: "string_value",
    DataType.DATETIME: "long_value",
}
# Name, number, protobuf's type (`FieldDescriptorProto.Type`), whether it is of the oneof `value`.
_METRIC_FIELDS = (
    ("name", 1, 9, False), ("alias", 2, 4, False), ("timestamp", 3, 4, False),
    ("datatype", 4, 13, False), ("is_historical", 5, 8, False), ("is_transient", 6, 8, False),
    ("is_null", 7, 8, False), ("int_value", 10, 13, True), ("long_value", 11, 4, True),
    ("float_value", 12, 2, True), ("double_value", 13, 1, True), ("boolean_value", 14, 8, True),
    ("string_value", 15, 9, True), ("bytes_value", 16, 12, True),
)  # fmt: skip
_OPTIONAL, _REPEATED, _UINT64, _MESSAGE = 1, 3, 4, 11
_WORD = 1 << 64


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a payload.

    Attributes:
        name: Told at birth alone; empty in data.
        alias: Stands for the name afterwards; None where it has none.
        type: Its data type.
        value: Its value; None is told as null.
        time: When it was so, milliseconds since 1970.
    """

    name: str
    alias: int | None
    type: DataType
    value: Value
    time: int


@functools.cache
def payload_class() -> Any:
    """The class of a payload.

    Raises:
        ModuleNotFoundError: protobuf is not installed.
    """
    from google.protobuf import (  # noqa: PLC0415 - an extra
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )

    file = descriptor_pb2.FileDescriptorProto(
        name="auscult/sparkplug.proto", package=_PACKAGE, syntax="proto2"
    )
    metric = file.message_type.add(name="Metric")
    metric.oneof_decl.add(name="value")
    for name, number, kind, of_value in _METRIC_FIELDS:
        field = metric.field.add(name=name, number=number, type=kind, label=_OPTIONAL)
        if of_value:
            field.oneof_index = 0
    payload = file.message_type.add(name="Payload")
    payload.field.add(name="timestamp", number=1, type=_UINT64, label=_OPTIONAL)
    payload.field.add(
        name="metrics", number=2, type=_MESSAGE, label=_REPEATED, type_name=f".{_PACKAGE}.Metric"
    )
    payload.field.add(name="seq", number=3, type=_UINT64, label=_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))


def encode_payload(metrics: Iterable[Metric], time: int, seq: int | None) -> bytes:
    """A payload's bytes.

    Args:
        metrics: What it tells.
        time: When it is sent, milliseconds since 1970.
        seq: Its number, 0 to 255; None for none (NDEATH).
    """
    payload = payload_class()(timestamp=time)
    if seq is not None:
        payload.seq = seq
    for one in metrics:
        told = payload.metrics.add(timestamp=one.time)
        if one.name:
            # What goes by its alias has its type from the birth; repeating it is advised against.
            told.name, told.datatype = one.name, int(one.type)
        if one.alias is not None:
            told.alias = one.alias
        if one.value is None:
            told.is_null = True
        else:
            # Signed numbers travel as their two's complement.
            signed = _MEMBER[one.type] == "long_value"
            value = int(one.value) % _WORD if signed else one.value
            setattr(told, _MEMBER[one.type], value)
    data: bytes = payload.SerializeToString()
    return data


def asks_rebirth(data: bytes) -> bool:
    """Whether a node command asks for all births anew.

    Raises:
        ValueError: It is no payload.
    """
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - an extra

    try:
        payload = payload_class().FromString(data)
    except DecodeError as fault:
        raise ValueError(str(fault)) from fault
    return any(one.name == REBIRTH and one.boolean_value for one in payload.metrics)


REBIRTH = "Node Control/Rebirth"
BD_SEQ = "bdSeq"

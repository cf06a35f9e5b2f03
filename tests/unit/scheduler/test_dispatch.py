"""What becomes of the other requests to the broker where it refuses one."""

from __future__ import annotations

from typing import Any
from unittest import mock

from pika.exceptions import ChannelClosedByBroker

from windrow.common.words import NodeId
from windrow.scheduler.dispatch import AmqpDispatch

GONE, NEW = NodeId("gone"), NodeId("new")


def test_a_queue_that_may_not_be_deleted_keeps_no_other_node_from_its_own() -> None:
    dispatch: Any = AmqpDispatch("amqp://nowhere/", cluster="c")
    dispatch._connection, dispatch._publishing = mock.Mock(), mock.Mock()
    refusing = dispatch._topology = mock.Mock()
    dispatch.close_node(GONE)
    dispatch.open_node(NEW)
    assert [call.args[0] for call in refusing.queue_delete.call_args_list] == [dispatch.queue_name(GONE)]
    dispatch._on_topology_closed(refusing, ChannelClosedByBroker(403, "ACCESS_REFUSED"))
    next_one = mock.Mock(connection=dispatch._connection)
    dispatch._on_topology_open(next_one)
    assert [call.args[0] for call in next_one.queue_declare.call_args_list] == [dispatch.queue_name(NEW)]

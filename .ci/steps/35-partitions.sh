#!/usr/bin/env bash
# promises and faults with four partitions, on a Redis Cluster of three primaries with a replica each
source .ci/common.sh

environment test -e '.[test]'
export JT709C_TEST_PARTITIONS=4
# The others take a quarter of an hour: run tests/promises and tests/faults with the same variable.
python -m pytest -q -n 4 \
    tests/promises/test_{acknowledgement_is_the_commit,one_process_for_a_name,carried_not_dropped}.py \
    tests/promises/test_command_never_opens_a_lock_twice.py::KilledGatewayTests \
    tests/faults/test_gateway_faults.py::GatewayFaultTests::test_{both_killed,killed_with_a_server_that_lives_on} \
    tests/faults/test_redis_faults.py::RedisFaultTests::test_{killed,scripts_flushed}

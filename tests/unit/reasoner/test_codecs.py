"""Messages in each codec that a producer can choose are readable: `reasoner doctor` reads those of any Collector."""

import pytest
from kafka.record import MemoryRecords, MemoryRecordsBuilder

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")  # index: number of the codec in a record batch


@pytest.mark.parametrize("number", range(len(CODECS)), ids=CODECS)
def test_a_batch_is_read(number: int) -> None:
    batches = MemoryRecordsBuilder(magic=2, compression_type=number, batch_size=1 << 20)
    batches.append(timestamp=1, key=None, value=b"span" * 1_000)
    batches.close()
    (record,) = MemoryRecords(bytes(batches.buffer())).next_batch()
    assert record.value == b"span" * 1_000

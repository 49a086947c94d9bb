"""All rows of the table, in its order."""

from typing import Final

from tests.situations.of_engines import BROKERS, CLUSTERS
from tests.situations.of_places import ADDRESSES, DISKS
from tests.situations.of_use import RECORDINGS, SETTINGS, TERMINALS, TYPED

WITHOUT_ENGINE: Final = (*TYPED, *SETTINGS, *ADDRESSES, *DISKS, *RECORDINGS, *TERMINALS)
ROWS: Final = (*WITHOUT_ENGINE, *BROKERS, *CLUSTERS)

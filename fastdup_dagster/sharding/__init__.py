"""A decode pass on several machines: its tasks are cut into shards, and each becomes part files beside the store."""

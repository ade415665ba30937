"""What is kept so that a bad step can be undone and looked at again: batches, random states, snapshots, the replay."""

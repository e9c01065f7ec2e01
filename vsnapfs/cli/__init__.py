"""The command ``vsnapfs``: one file per command or group; says what it does through the daemon's client only."""

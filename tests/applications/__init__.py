"""Real applications on a live volume: databases that are killed, whose every bookmark is opened, recovered and summed up."""

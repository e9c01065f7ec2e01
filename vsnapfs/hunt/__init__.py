"""The search for a defect: which point to test next, the test on a throw-away branch, the log that it can go on from."""

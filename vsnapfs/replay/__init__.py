"""Later writes again, onto a branch, without those that did the harm."""

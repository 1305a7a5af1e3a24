"""One reader and one writer for each message that two services share, and the names under which they meet."""

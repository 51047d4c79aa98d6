"""Jobs: what the command line, a service and the bench share."""

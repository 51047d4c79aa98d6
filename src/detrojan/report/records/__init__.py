"""What each verb writes as JSON, and how a person reads it: one file per verb."""

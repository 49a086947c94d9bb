"""Programs of users: jobs with a detector or a sink of their own around this library."""

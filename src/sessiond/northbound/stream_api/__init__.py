"""The stream surface: `ma.streaming.api.v1.SessionManagementService` as its published clients know it, and no rules."""

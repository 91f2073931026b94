"""The paper's tables, computed here and set beside the published figures."""

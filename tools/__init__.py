"""Scripts that write pages of the guide. They are not part of the installed package."""

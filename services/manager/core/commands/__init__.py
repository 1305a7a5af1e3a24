"""What changes things: transitions, commands of people, edits of rules."""

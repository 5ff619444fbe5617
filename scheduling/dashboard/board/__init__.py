"""The board: `page` arranges cards, columns and rows; `changes` says what differs since."""

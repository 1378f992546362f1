//! Keeps EVE characters' access true: who left the approved organisations loses the session.

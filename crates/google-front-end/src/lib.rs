//! google-front-end

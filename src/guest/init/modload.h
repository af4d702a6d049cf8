/* Loads the modules that stasis chose. One thread: init's. */
#ifndef STASIS_GUEST_INIT_MODLOAD_H
#define STASIS_GUEST_INIT_MODLOAD_H

/* Those named in SESSION_MODULES_FILE, in its order. Failures are logged and passed over: if it
 * was one that matters, the ports won't come. */
void modload_all(void);

#endif

/* Small shims for what Swift cannot import: macros and variadic calls. */
#ifndef CPLATFORM_H
#define CPLATFORM_H
#endif

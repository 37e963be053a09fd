#ifndef SWITCHOVER_H
#define SWITCHOVER_H
#endif

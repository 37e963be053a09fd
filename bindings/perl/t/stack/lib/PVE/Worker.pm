# Runs a task in a forked child of a process that has loaded everything already.
package PVE::Worker;

use strict;
use warnings;

use POSIX ();

my @INTERRUPTING_SIGNALS = qw(INT TERM QUIT HUP PIPE);

# Forks a worker that runs the code with its output going to the given descriptor, and returns its
# process id. The worker's first line names it. It exits 0 where the code returned, else 1.
sub fork_worker {
    my ($output, $code) = @_;
    my $pid = fork() // die "fork failed: $!\n";
    return $pid if $pid;
    my $completed = eval {
        $SIG{$_} = sub { die "interrupted by signal\n" } for @INTERRUPTING_SIGNALS;
        $SIG{CHLD} = 'DEFAULT';
        POSIX::setsid();
        open(STDIN, '<', '/dev/null') or die "no /dev/null: $!\n";
        if (fileno($output) != 1) {
            POSIX::dup2(fileno($output), 1) // die "dup2 failed: $!\n";
        }
        POSIX::dup2(1, 2) // die "dup2 failed: $!\n";
        STDOUT->autoflush(1);
        print "worker $$\n";
        $code->();
        print "task ended: OK\n";
        1;
    };
    print "task ended: $@" if !$completed;
    STDOUT->flush();
    POSIX::_exit($completed ? 0 : 1);
}

1;

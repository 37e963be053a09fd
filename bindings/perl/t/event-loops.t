# One descriptor in anybody's loop: a whole migration driven from each.
use strict;
use warnings;

use File::Temp ();
use Test::More;

use QEMU::Switchover;
use SwitchoverTest::Loop;
use SwitchoverTest::Pair;
use SwitchoverTest::QEMU;
use SwitchoverTest::Ticks;

plan skip_all => 'needs qemu-system-x86_64' if !SwitchoverTest::QEMU::versions();

my $ticking = SwitchoverTest::Loop->new();

# Takes what there is, and says whether the migration has finished.
sub serve {
    my ($loop) = @_;
    my $finished = 0;
    $loop->dispatch(0);
    while (my $event = $loop->next_event()) {
        $event->{migration}->handed_over('done') if $event->{kind} eq 'hand-over-wanted';
        $finished = 1 if $event->{kind} eq 'finished';
    }
    return $finished;
}

my %DRIVERS = (
    'IO::Poll' => sub {
        my ($loop) = @_;
        require IO::Poll;
        open(my $handle, '<&', $loop->fd()) or die "can't open the descriptor: $!\n";
        my $poll = IO::Poll->new();
        $poll->mask($handle => IO::Poll::POLLIN());
        until (serve($loop)) {
            $poll->poll(60) > 0 or die "nothing happens\n";
        }
    },
    'select' => sub {
        my ($loop) = @_;
        until (serve($loop)) {
            my $readable = '';
            vec($readable, $loop->fd(), 1) = 1;
            select($readable, undef, undef, 60) > 0 or die "nothing happens\n";
        }
    },
    'AnyEvent' => sub {
        my ($loop) = @_;
        require AnyEvent;
        my $done = AnyEvent->condvar();
        my $timeout = AnyEvent->timer(after => 60, cb => sub { $done->croak('nothing happens') });
        my $watcher = AnyEvent->io(fh => $loop->fd(), poll => 'r',
            cb => sub { $done->send() if serve($loop) });
        $done->recv();
    },
    'EV' => sub {
        my ($loop) = @_;
        require EV;
        my $watcher = EV::io($loop->fd(), EV::READ(), sub { EV::break() if serve($loop) });
        my $timeout = EV::timer(60, 0, sub { die "nothing happens\n" });
        EV::run();
    },
);

for my $name (sort keys %DRIVERS) {
    SKIP: {
        if ($name =~ /::|\A[A-Z]/ && !eval { require(($name =~ s!::!/!gr) . '.pm') }) {
            skip("$name is not installed", 2);
        }
        my $folder = File::Temp->newdir();
        my $pair = SwitchoverTest::Pair->start($ticking, $folder->dirname(), ticks_per_second => 50);
        my $loop = QEMU::Switchover->new();
        my $migration = $loop->migration(source => "$folder/source.qmp",
            target => "$folder/target.qmp", uri => "unix:$folder/ram", source_end => 'keep');
        $migration->start();
        ok(eval { $DRIVERS{$name}->($loop); 1 }, "$name drives a migration") or diag($@);
        is($migration->end(), 'completed', 'to its end');
        $pair->stop();
    }
}

done_testing();

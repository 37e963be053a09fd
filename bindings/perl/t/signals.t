# Signals and timeouts end a wait as they do in pure Perl, wherever it is, and leave everything
# usable.
use strict;
use warnings;

use File::Temp ();
use POSIX ();
use Test::More;
use Time::HiRes ();

use QEMU::Switchover;
use QEMU::Switchover::QMP;
use SwitchoverTest::Extent;
use SwitchoverTest::Loop;
use SwitchoverTest::Pair;
use SwitchoverTest::QEMU;
use SwitchoverTest::Ticks;

plan skip_all => 'needs qemu-system-x86_64' if !SwitchoverTest::QEMU::versions();

my $ticking = SwitchoverTest::Loop->new();

# What the code dies of when it is interrupted after some milliseconds.
sub interrupted {
    my ($milliseconds, $code) = @_;
    local $SIG{ALRM} = sub { die "time is up\n" };
    my $ended = eval {
        Time::HiRes::ualarm($milliseconds * 1000);
        $code->();
        1;
    };
    my $error = $@;
    Time::HiRes::ualarm(0);
    return $ended ? 'it returned' : $error;
}

# Runs the code with a pair whose guest dirties memory, so that a slow migration does not end.
sub with_migration {
    my ($name, $code) = @_;
    subtest $name => sub {
        my $folder = File::Temp->newdir();
        my $pair = SwitchoverTest::Pair->start($ticking, $folder->dirname(),
            ticks_per_second => 50, dirty_pages_per_tick => 80);
        my $loop = QEMU::Switchover->new();
        my $migration = $loop->migration(source => "$folder/source.qmp",
            target => "$folder/target.qmp", uri => "unix:$folder/ram", source_end => 'keep',
            hand_over => 'none', bandwidth => 1 << 20);
        $code->($migration, $loop, $pair);
        $pair->stop();
    };
    return;
}

# The migration is cancelled as if nothing had been before.
sub can_be_cancelled {
    my ($migration) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $migration->cancel() if $migration->phase() ne 'ended';
    $migration->run(60_000);
    return is($migration->end(), 'cancelled', 'it can still be cancelled');
}

with_migration('alarm in run', sub {
    my ($migration) = @_;
    $migration->start();
    is(interrupted(150, sub { $migration->run() }), "time is up\n", 'dies')
        while $migration->phase() ne 'transferring';
    is(interrupted(150, sub { $migration->run() }), "time is up\n", 'dies while memory moves');
    is($migration->phase(), 'transferring', 'the migration goes on');
    is($migration->run(300), undef, 'and can be waited for');
    can_be_cancelled($migration);
});

with_migration('alarm in dispatch', sub {
    my ($migration, $loop) = @_;
    $migration->start();
    my $error = interrupted(500, sub {
        while (1) {
            $loop->dispatch(undef);
            1 while $loop->next_event();
        }
    });
    is($error, "time is up\n", 'dies');
    can_be_cancelled($migration);
});

with_migration('a handler that returns', sub {
    my ($migration) = @_;
    my $count = 0;
    local $SIG{USR1} = sub { $count++ };
    $migration->start();
    my $child = fork() // die "fork failed: $!\n";
    if (!$child) {
        for (1 .. 20) {
            kill('USR1', getppid());
            Time::HiRes::usleep(20_000);
        }
        POSIX::_exit(0);
    }
    my $begin = $ticking->now();
    is($migration->run(1000), undef, 'does not end the wait');
    cmp_ok($ticking->now() - $begin, '>=', 0.99, 'nor shorten it');
    waitpid($child, 0);
    cmp_ok($count, '>', 0, 'though it ran');
    can_be_cancelled($migration);
});

for my $signal (qw(INT TERM HUP QUIT)) {
    with_migration("$signal that dies, as workers have it", sub {
        my ($migration) = @_;
        $migration->start();
        my $child = fork() // die "fork failed: $!\n";
        if (!$child) {
            Time::HiRes::usleep(300_000);
            kill($signal, getppid());
            POSIX::_exit(0);
        }
        my $ended = eval {
            local $SIG{$signal} = sub { die "interrupted by signal\n" };
            $migration->run();
            1;
        };
        is($ended ? 'it returned' : $@, "interrupted by signal\n", 'dies');
        waitpid($child, 0);
        can_be_cancelled($migration);
    });
}

with_migration('a handler that cancels', sub {
    my ($migration) = @_;
    local $SIG{ALRM} = sub { $migration->cancel() };
    $migration->start();
    Time::HiRes::ualarm(400_000);
    is($migration->run(60_000), 'finished', 'the wait goes on to the end');
    is($migration->end(), 'cancelled', 'which is cancelled');
});

with_migration('a handler that drops the migration', sub {
    my ($migration, $loop, $pair) = @_;
    my %holder = (migration => $migration);
    undef $migration;
    undef $_[0];
    local $SIG{ALRM} = sub { %holder = (); die "dropped\n" };
    $holder{migration}->start();
    Time::HiRes::ualarm(400_000);
    ok(!eval { $holder{migration}->run(); 1 }, 'ends the wait');
    is($@, "dropped\n", 'with its own words');
    is($loop->dispatch(0) >= 0, 1, 'and the loop is as good as before');
});

# A whole migration; the code is called at the first event of the phase. What it died of.
sub interrupted_in {
    my ($migration, $loop, $phase, $code) = @_;
    my ($death, $is_reached);
    $migration->start();
    while ($migration->phase() ne 'ended') {
        my $ended = eval {
            $loop->dispatch(undef);
            while (my $event = $loop->next_event()) {
                $migration->handed_over('done') if $event->{kind} eq 'hand-over-wanted';
                next if $is_reached || ($event->{phase} // '') ne $phase;
                $is_reached = 1;
                $code->($loop);
            }
            1;
        };
        $death //= $@ if !$ended;
    }
    return $death // ($is_reached ? 'it lived' : 'it was never there');
}

my %WAYS = (
    'its own code' => sub { die "interrupted by signal\n" },
    'a signal between two steps' => sub { kill('TERM', $$) },
    'a signal in the wait' => sub { Time::HiRes::ualarm(50); $_[0]->dispatch(20) while 1 },
);

for my $phase (qw(connecting preflight preparing transferring switching-over handing-over activating finishing ended)) {
    for my $way (sort keys %WAYS) {
        next if $way ne 'a signal in the wait' && !SwitchoverTest::Extent::is_whole();
        subtest "death by $way while it is $phase" => sub {
            my $folder = File::Temp->newdir();
            my $pair = SwitchoverTest::Pair->start($ticking, $folder->dirname(), ticks_per_second => 50);
            my $loop = QEMU::Switchover->new();
            my $migration = $loop->migration(source => "$folder/source.qmp",
                target => "$folder/target.qmp", uri => "unix:$folder/ram", source_end => 'keep');
            local @SIG{qw(TERM ALRM)} = (sub { die "interrupted by signal\n" }) x 2;
            is(interrupted_in($migration, $loop, $phase, $WAYS{$way}), "interrupted by signal\n", 'it died');
            is($migration->end(), 'completed', 'the migration could be seen to its end');
            is($migration->owner(), 'target', 'with one owner');
            ok(scalar(() = $migration->ledger()), 'and a ledger');
            $pair->ticks('target')->wait_for(20);
            is(SwitchoverTest::Ticks::interruption(map { $pair->ticks($_) } qw(source target)), undef,
                'the guest counts on');
            $pair->stop();
        };
    }
}

subtest 'a command under way' => sub {
    my $folder = File::Temp->newdir();
    my $qemu = SwitchoverTest::QEMU->start(folder => $folder->dirname(), name => 'one');
    my $qmp = QEMU::Switchover::QMP->connect("$folder/one.qmp");
    kill('STOP', $qemu->{pid});
    is(interrupted(200, sub { $qmp->execute('query-status') }), "time is up\n", 'dies');
    kill('CONT', $qemu->{pid});
    is($qmp->execute('query-name')->{name}, 'one', 'the next command has its own answer');
    is($qmp->loop()->next_event(), undef, 'and nobody hears of the other');
};

subtest 'a connection under way' => sub {
    my $folder = File::Temp->newdir();
    my $qemu = SwitchoverTest::QEMU->start(folder => $folder->dirname(), name => 'one');
    my $holder = QEMU::Switchover::QMP->connect("$folder/one.qmp");
    kill('STOP', $qemu->{pid});
    undef $holder;
    is(interrupted(200, sub { QEMU::Switchover::QMP->connect("$folder/one.qmp") }), "time is up\n",
        'dies');
    kill('CONT', $qemu->{pid});
    ok(QEMU::Switchover::QMP->connect("$folder/one.qmp"), 'and makes room for another');
};

done_testing();

# What a child process and a new thread of Perl may do with what they inherit, and what the parent
# notices of it: nothing.
use strict;
use warnings;

use Config;
use File::Temp ();
use POSIX ();
use Test::More;

use QEMU::Switchover;
use QEMU::Switchover::QMP;
use SwitchoverTest::Loop;
use SwitchoverTest::Pair;
use SwitchoverTest::QEMU;
use SwitchoverTest::Ticks;

plan skip_all => 'needs qemu-system-x86_64' if !SwitchoverTest::QEMU::versions();

my $ticking = SwitchoverTest::Loop->new();

# The exit status of a child that runs the code and leaves as it says.
sub child_that {
    my ($code) = @_;
    my $pid = fork() // die "fork failed: $!\n";
    if (!$pid) {
        my $status = eval { $code->() } // 99;
        POSIX::_exit($status);
    }
    waitpid($pid, 0);
    return $? >> 8;
}

subtest 'a child of a process with a migration' => sub {
    my $folder = File::Temp->newdir();
    my $pair = SwitchoverTest::Pair->start($ticking, $folder->dirname(),
        ticks_per_second => 50, dirty_pages_per_tick => 80);
    my $loop = QEMU::Switchover->new();
    my $migration = $loop->migration(source => "$folder/source.qmp", target => "$folder/target.qmp",
        uri => "unix:$folder/ram", source_end => 'keep', hand_over => 'none', bandwidth => 1 << 22);
    my $qmp;
    $migration->start();
    $migration->run(100) while $migration->phase() ne 'transferring';

    is(child_that(sub { eval { $migration->cancel() }; return $@->code() eq 'forked' ? 7 : 8 }), 7,
        'may not cancel it');
    is(child_that(sub { eval { $migration->run(10) }; return $@->code() eq 'forked' ? 7 : 8 }), 7,
        'may not wait for it');
    is(child_that(sub { eval { $loop->dispatch(10) }; return $@->code() eq 'forked' ? 7 : 8 }), 7,
        'may not run its loop');
    is(child_that(sub { undef $migration; undef $loop; return 7 }), 7, 'may drop it');
    is(child_that(sub { undef $loop; undef $migration; return 7 }), 7, 'in any order');
    my $pid = fork() // die "fork failed: $!\n";
    exit(7) if !$pid;
    waitpid($pid, 0);
    is($? >> 8, 7, 'and may leave through all destructors');
    is(child_that(sub { my $own = QEMU::Switchover->new(); return $own->dispatch(0) == 0 ? 7 : 8 }),
        7, 'and may have a loop of its own');

    is($migration->phase(), 'transferring', 'the parent has noticed nothing');
    $migration->cancel();
    is($migration->run(60_000), 'finished', 'and goes on as ever');
    is($migration->end(), 'cancelled', 'to the end that it wants');
    $pair->ticks('source')->wait_for(20);
    is(SwitchoverTest::Ticks::interruption($pair->ticks('source')), undef, 'as the guest does');
    $pair->stop();
};

subtest 'a worker that is forked before anything is made' => sub {
    my $folder = File::Temp->newdir();
    my $pair = SwitchoverTest::Pair->start($ticking, $folder->dirname(), ticks_per_second => 50);
    my $status = child_that(sub {
        my $migration = QEMU::Switchover->new()->migration(source => "$folder/source.qmp",
            target => "$folder/target.qmp", uri => "unix:$folder/ram", source_end => 'keep',
            hand_over => 'none');
        $migration->start();
        $migration->run(60_000);
        return $migration->end() eq 'completed' ? 7 : 8;
    });
    is($status, 7, 'migrates');
    $pair->ticks('target')->wait_for(20);
    is(SwitchoverTest::Ticks::interruption(map { $pair->ticks($_) } qw(source target)), undef,
        'and the guest counts on');
    $pair->stop();
};

SKIP: {
    skip('this perl has no threads', 3) if !$Config{useithreads};
    require threads;
    my $loop = QEMU::Switchover->new();
    my $migration = $loop->migration(source => '/nowhere/a', target => '/nowhere/b',
        uri => 'unix:/nowhere/ram', source_end => 'keep');
    my $seen = threads->create(sub { return eval { $loop->fd(); 1 } ? 'used' : 'refused' })->join();
    is($seen, 'refused', 'a new thread has no use of what was made before it');
    $seen = threads->create(sub { return QEMU::Switchover->new()->dispatch(0) })->join();
    is($seen, 0, 'but may make its own');
    is($loop->dispatch(0), 0, 'and the objects of the first thread are as they were');
}

done_testing();

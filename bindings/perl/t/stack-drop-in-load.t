# The source's only monitor is everybody's: twenty others ask for it each second while the drop-in
# migrates the guest, and one keeps it for much longer than the stack's tools wait.
use strict;
use warnings;

use FindBin;
use IO::Socket::UNIX;
use POSIX ();
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/lib", "$FindBin::Bin/stack/lib";
use PVE::QemuServer::Monitor;
use SwitchoverTest::Cluster;
use SwitchoverTest::Extent;
use SwitchoverTest::StackChecks;

if (my $reason = SwitchoverTest::Cluster::unavailable()) {
    plan skip_all => $reason;
}
my $cluster = SwitchoverTest::Cluster->new(drop_in => {});
my $loop = $cluster->loop();
my $CLIENT_COUNT = 20;
my $STACK_TIMEOUT_MS = 5000;

# A guest that takes some seconds to converge.
my %VM = (dirty_pages_per_tick => 1, dirty_bytes => 24 * 1024 ** 2, disk_bytes => 16 * 1024 ** 2,
    config => { migrate_speed => 8 });

# Asks as the stack's tools do, each second, until the VM has gone; writes "MILLISECONDS ok|ERROR".
sub ask_each_second {
    my ($path, $number, $output) = @_;
    my $peer = { path => $path, name => 'VM' };
    $output->autoflush(1);
    Time::HiRes::sleep($number / $CLIENT_COUNT);
    while (1) {
        my $begin = SwitchoverTest::Loop::now();
        my $answer = eval { PVE::QemuServer::Monitor::qmp_cmd($peer, 'query-status')->{status} };
        my $waited = (SwitchoverTest::Loop::now() - $begin) * 1000;
        my $error = $@;
        last if $error =~ /can't connect|client closed connection|read failed|write failed/;
        printf {$output} "%d %s\n", $waited, $error ? $error =~ s/\s+/ /gr : 'ok';
        Time::HiRes::sleep(1 - $waited / 1000) if $waited < 1000;
    }
    return;
}

# Starts the clients; what they write comes together in the text that is returned by reference.
sub start_clients {
    my ($path) = @_;
    my $text = '';
    my $living = $CLIENT_COUNT;
    for my $number (1 .. $CLIENT_COUNT) {
        my $pid = open(my $output, '-|') // die "fork failed: $!\n";
        if (!$pid) {
            eval { ask_each_second($path, $number, \*STDOUT) };
            POSIX::_exit(0);
        }
        $loop->watch($output, sub {
            return if sysread($output, $text, 65536, length $text);
            $loop->forget($output);
            close($output);
            $living--;
        });
    }
    return (\$text, \$living);
}

sub distribution {
    my (@waits) = sort { $a <=> $b } @_;
    return join(', ', map { sprintf('%s %d', $_->[0], $waits[int($_->[1] * $#waits)]) }
        ['least', 0], ['median', 0.5], ['90 %', 0.9], ['99 %', 0.99], ['most', 1]);
}

for my $version (SwitchoverTest::Extent::versions()) {
    subtest "QEMU $version: twenty clients, each once a second" => sub {
        my $vmid = $version eq '7.2' ? 100 : 110;
        $cluster->start_vm($vmid, %VM, version => $version);
        my ($text, $living) = start_clients($cluster->path('alpha', "qemu-server/$vmid.qmp"));
        my $task = $cluster->wait_for($cluster->start_migration($vmid));
        is($task->{exit}, 0, 'the migration completes') or diag(SwitchoverTest::Cluster::log_of($task));
        $loop->run_until(60, 'the end of the clients', sub { !$$living });
        my @answers = map { [split ' ', $_, 2] } split /\n/, $$text;
        my @waits = map { $_->[0] } @answers;
        diag("QEMU $version: " . @waits . ' commands waited, ms: ' . distribution(@waits));
        cmp_ok(scalar @waits, '>=', $CLIENT_COUNT, 'all of them asked');
        is_deeply([grep { $_->[1] ne 'ok' } @answers], [], 'nobody met the timeout');
        cmp_ok($waits[$_], '<', $STACK_TIMEOUT_MS, 'nor waited that long') for grep { $waits[$_] >= 4000 } 0 .. $#waits;
        unlike(SwitchoverTest::Cluster::log_of($task), qr/stepping aside/, 'the drop-in did it');
        guest_moved($cluster, $vmid);
        gap_of($cluster, $vmid, "QEMU $version, with twenty clients");
        $cluster->remove_vm($vmid);
    };
}

# The guest could switch over some seconds after the first report, and so while the monitor is kept; later
# clients come shortly before that, or at that moment.
sub keep_the_monitor {
    my ($vmid, $delay, $seconds) = @_;
    $cluster->start_vm($vmid, %VM);
    my $task = $cluster->start_migration($vmid);
    $cluster->wait_for_line($task, qr/migration active/);
    $loop->run_for($delay);
    my $holder = IO::Socket::UNIX->new(Peer => $cluster->path('alpha', "qemu-server/$vmid.qmp"));
    diag('the source had gone before it came') if !$holder;
    my $ticks = $cluster->ticks($vmid, 'alpha');
    my $end = SwitchoverTest::Loop::now() + $seconds;
    my $longest = 0;
    while (SwitchoverTest::Loop::now() < $end && !defined $task->{exit}) {
        $loop->run_for(0.2);
        my $silence = SwitchoverTest::Loop::now() - $ticks->last();
        $longest = $silence if $silence > $longest && $cluster->ticks($vmid, 'beta')->never_ran($ticks);
    }
    my $what = defined $task->{exit} ? 'the migration ended meanwhile' : 'the migration waited for it';
    undef $holder;
    diag(sprintf('%s; the guest was silent for %.1f s at most', $what, $longest));
    cmp_ok($longest, '<', 10, 'the guest does not stand while nobody looks after it');
    $cluster->wait_for($task);
    $task->{exit} ? guest_stayed($cluster, $vmid) : guest_moved($cluster, $vmid);
    $cluster->remove_vm($vmid);
    return;
}

my ($kept_seconds, @delays) = SwitchoverTest::Extent::is_whole() ? (30, 0 .. 3) : (8, 0);
for my $delay (@delays) {
    subtest "a client that takes the monitor after $delay s and keeps it for $kept_seconds" => sub {
        keep_the_monitor(120 + $delay, $delay, $kept_seconds);
    };
}

done_testing();

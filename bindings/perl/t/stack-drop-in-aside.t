# Where anything is missing or not as expected, the drop-in steps aside with one line, and the stack
# does what it always did.
use strict;
use warnings;

use FindBin;
use IO::Socket::UNIX;
use Test::More;

use lib "$FindBin::Bin/lib", "$FindBin::Bin/stack/lib";
use SwitchoverTest::Cluster;
use SwitchoverTest::Extent;
use SwitchoverTest::StackChecks;

if (my $reason = SwitchoverTest::Cluster::unavailable()) {
    plan skip_all => $reason;
}
my $cluster = SwitchoverTest::Cluster->new(drop_in => {});
my $ASIDE = qr/\AWARN: switchover: stepping aside, the migration goes on without it: /;

# One line with the reason, and nothing else of ours.
sub stepped_aside {
    my ($task, $reason) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @ours = grep { /switchover: / } SwitchoverTest::Cluster::messages_of($task);
    is(scalar @ours, 1, 'there is one line of ours') or diag(map { "$_\n" } @ours);
    return like($ours[0] // '', qr/$ASIDE$reason/, 'with the reason');
}

sub moves_without {
    my ($what, $reason, $vmid, $vm, $prepare) = @_;
    subtest $what => sub {
        $cluster->start_vm($vmid, %$vm);
        my $undo = $prepare->();
        my $task = $cluster->start_migration($vmid);
        $undo = $undo->($task) if $undo;
        $cluster->wait_for($task);
        is($task->{exit}, 0, 'the task succeeds') or diag(SwitchoverTest::Cluster::log_of($task));
        stepped_aside($task, $reason);
        guest_moved($cluster, $vmid);
        $cluster->remove_vm($vmid);
    };
    return;
}

moves_without('no place for a journal', qr/there is no folder '\/var\/lib\/switchover' for the journal/,
    100, { disk_bytes => 16 * 1024 ** 2 }, sub {
        open(my $file, '>', $cluster->folder() . '/alpha/lib/switchover') or die "can't write: $!\n";
        return;
    });
unlink($cluster->folder() . '/alpha/lib/switchover');

moves_without('no place for a forward', qr/.*switchover/, 101, {}, sub {
    open(my $file, '>', $cluster->path('alpha', 'switchover')) or die "can't write: $!\n";
    return;
}) if SwitchoverTest::Extent::is_whole();
unlink($cluster->path('alpha', 'switchover'));

# Somebody holds the target's monitor for longer than anybody waits.
moves_without('a monitor that others hold for too long', qr/target's monitor busy/, 102, {}, sub {
    return sub {
        my ($task) = @_;
        $cluster->wait_for_line($task, qr/opening the tunnel/);
        my $holder = IO::Socket::UNIX->new(Peer => $cluster->path('beta', 'qemu-server/102.qmp'))
            or die "can't connect: $!\n";
        $cluster->wait_for_line($task, $ASIDE =~ s/\\A//r);
        close($holder);
    };
});

subtest 'QEMUs that do not fit' => sub {
    $cluster->start_vm(103, config => { memory => 128 });
    my $config = $cluster->config('alpha', 103) =~ s/^memory: 128$/memory: 160/mr;
    open(my $file, '>', $cluster->folder() . '/pve/nodes/alpha/qemu-server/103.conf') or die "can't write: $!\n";
    print {$file} $config;
    close($file);
    my $task = $cluster->wait_for($cluster->start_migration(103));
    isnt($task->{exit}, 0, 'the task fails as QEMU does');
    stepped_aside($task, qr/memory sizes differ/);
    ok(log_in_order([SwitchoverTest::Cluster::messages_of($task)], qr/stepping aside/,
        qr/\Amigration status error: failed/, qr/phase2 failed: aborting\z/), 'with the words of the stack');
    my %on = map { $_->{capability} => $_->{state} }
        @{ $cluster->qmp('alpha', 103, 'query-migrate-capabilities') };
    ok(!$on{$_}, "'$_' is off") for qw(events return-path pause-before-switchover);
    guest_stayed($cluster, 103);
};

# A stack object of which only this is known, for a VM that runs.
sub aside_with {
    my ($fields, $arguments) = @_;
    my $code = 'package Stack; sub log { print "$_[1]: $_[2]\n" } package main;'
        . 'use QEMU::Switchover::QemuServer::Run;'
        . "my \$stack = bless { $fields }, 'Stack';"
        . 'my $run = QEMU::Switchover::QemuServer::Run->new($stack, 103,'
        . ' { hand_over => "before-resume", journals => "/run/journals" });'
        . "print \$run->take_over({ $arguments }), \"\\n\"";
    return [$cluster->run('alpha', 'perl', '-T', SwitchoverTest::Cluster::include_of_module(), '-e', $code)];
}

my $ASIDE_TEXT = 'warn: switchover: stepping aside, the migration goes on without it:';
my $SSH = 'rem_ssh => ["ssh", "root@192.0.2.1"]';
is_deeply(aside_with('opts => { migration_type => "websocket" }', 'uri => "unix:/ram"'),
    ["$ASIDE_TEXT there is no ssh connection to the other node", 0], 'another cluster');
is_deeply(aside_with($SSH, 'uri => "unix:/ram"'),
    ["$ASIDE_TEXT the stack has no tunnel to the other node", 0], 'no tunnel');
is_deeply(aside_with("$SSH, tunnel => {}", 'uri => "unix:/ram", resume => 1'),
    ["$ASIDE_TEXT 'migrate' has an argument that is not known: 'resume'", 0], 'an unknown argument');
is_deeply(aside_with("$SSH, tunnel => {}", ''),
    ["$ASIDE_TEXT 'migrate' has no address", 0], 'no address');
like(aside_with('rem_ssh => ["/bin/false"], tunnel => {}', 'uri => "unix:/ram"')->[0],
    qr/\A\Q$ASIDE_TEXT\E ssh ended: it says nothing\z/, 'an ssh that does not work');

my $other = SwitchoverTest::Cluster->new(drop_in => {}, perl_options => ['-I', "$FindBin::Bin/lib",
    '-MSwitchoverTest::Without=PVE::QemuServer::BlockJob::monitor']);
subtest 'a release of the stack that is not known' => sub {
    $other->start_vm(110);
    my $task = $other->wait_for($other->start_migration(110));
    is($task->{exit}, 0, 'the task succeeds') or diag(SwitchoverTest::Cluster::log_of($task));
    stepped_aside($task, qr/this release of the stack has no 'PVE::QemuServer::BlockJob::monitor'/);
    guest_moved($other, 110);
};

done_testing();

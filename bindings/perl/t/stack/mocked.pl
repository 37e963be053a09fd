#!/usr/bin/perl
# The stack in its pure mocked form: no socket, no process, no QEMU. Everything below the migration
# class is replaced, each call is written down, and a transcript of all scenarios goes to standard
# output.
#
# perl -T -I lib mocked.pl [MODULE]: the module is loaded after the mocks are in place; `-MMODULE`
# loads one before them. Whatever is loaded, the transcript must stay the same to the letter.
use strict;
use warnings;

use PVE::QemuMigrate;

my $VMID = 149;

my @transcript;
my $scenario;

sub note_down {
    my ($kind, @words) = @_;
    push @transcript, join(' ', $kind, map { $_ // '-' } @words);
    return;
}

sub replace {
    my (%functions) = @_;
    no strict 'refs';
    no warnings qw(redefine prototype);
    *{$_} = $functions{$_} for keys %functions;
    return;
}

# The only commands that the mocked monitor knows; its answers have neither `ram` nor `downtime`.
my %MONITOR = (
    'nbd-server-start' => sub { return },
    'block-dirty-bitmap-add' => sub { return },
    'block-dirty-bitmap-remove' => sub { return },
    'migrate-set-parameters' => sub { return },
    'migrate_cancel' => sub { return },
    'migrate' => sub {
        die "the monitor does not like it\n" if $scenario->{migrate_fails};
        return;
    },
    'query-migrate' => sub {
        my $answer = shift @{ $scenario->{answers} } // die "asked once too often\n";
        $answer->() if ref $answer eq 'CODE';
        return $answer;
    },
);

replace(
    'PVE::QemuMigrate::mon_cmd' => sub {
        my ($vmid, $command, %arguments) = @_;
        note_down('monitor', $vmid, $command, map { "$_=$arguments{$_}" } sort keys %arguments);
        my $code = $MONITOR{$command} // die "the monitor does not know '$command'\n";
        return $code->();
    },
    'PVE::QemuServer::BlockJob::mirror' => sub {
        my (undef, $drive, $uri, undef, $jobs) = @_;
        note_down('mirror', $drive, $uri);
        $jobs->{"drive-$drive"} = {};
    },
    'PVE::QemuServer::BlockJob::monitor' => sub {
        my (undef, undef, $jobs, $completion) = @_;
        note_down('mirrors', $completion, sort keys %$jobs);
        return if $completion ne 'cancel';
        die "mirroring error: the disk is full\n" if $scenario->{mirrors_fail};
        %$jobs = ();
    },
    'PVE::QemuServer::BlockJob::cancel' => sub {
        my (undef, $jobs) = @_;
        note_down('mirrors', 'give up', sort keys %$jobs);
        %$jobs = ();
    },
    'PVE::QemuServer::check_running' => sub { return 1 },
    'PVE::QemuServer::volume_size' => sub { return 4 * 1024 ** 3 },
    'PVE::QemuServer::set_migration_caps' => sub { note_down('capabilities', @_) },
    'PVE::QemuServer::resume_postmigrate' => sub { note_down('source', 'resumed if postmigrate') },
    'PVE::QemuServer::vm_stop' => sub { note_down('source', 'stopped') },
    'PVE::QemuServer::free_volume' => sub { note_down('source', 'freed', @_) },
    'PVE::QemuServer::remove_forwarding_entries' => sub { note_down('source', 'entries removed') },
    'PVE::QemuConfig::load_config' => sub { return { %{ $scenario->{config} } } },
    'PVE::QemuConfig::write_config' => sub { note_down('config', 'written') },
    'PVE::QemuConfig::set_lock' => sub { note_down('config', 'locked', $_[2]) },
    'PVE::QemuConfig::remove_lock' => sub { note_down('config', 'unlocked', $_[2]) },
    'PVE::QemuConfig::move_config_to_node' => sub {
        note_down('config', 'moved', @_[1, 2]);
        die "the cluster has no quorum\n" if $scenario->{move_fails};
    },
    'PVE::Tunnel::fork_ssh_tunnel' => sub {
        my (undef, undef, $sockets) = @_;
        note_down('tunnel', 'opened', @$sockets);
        return { version => 1, sockets => $sockets };
    },
    'PVE::Tunnel::write_tunnel' => sub {
        my (undef, undef, $line) = @_;
        note_down('tunnel', $line);
        die "the tunnel does not know '$line'\n" if $line ne "resume $VMID";
        die "no such VM\n" if $scenario->{resume_fails};
    },
    'PVE::Tunnel::finish_tunnel' => sub { note_down('tunnel', 'closed'); return '' },
    'PVE::AbstractMigrate::log' => sub {
        my (undef, $level, $text) = @_;
        chomp $text;
        $text =~ s{[0-9.]+ [KMGT]?i?B/s}{N/s};
        $text =~ s{after [0-9]+ s\b}{after N s};
        note_down('log', $level, $text);
    },
    'PVE::AbstractMigrate::remote' => sub {
        my ($self, $command, $outfunc) = @_;
        note_down('remote', $self->{rem_ssh} ? 'ssh' : 'websocket', @$command);
        return if ($command->[1] // '') ne 'start';
        $outfunc->("ram unix:/run/qemu-server/$VMID.migrate");
        for my $drive (sort keys %{ $self->{mirror} // {} }) {
            $outfunc->("volume $drive local:$VMID/vm-$VMID-disk-0.raw");
            $outfunc->("nbd $drive nbd:unix:/run/qemu-server/${VMID}_nbd.migrate:exportname=drive-$drive");
        }
    },
    'PVE::Tools::nodename' => sub { return 'alpha' },
);

my %SHARED = (memory => 512, scsi0 => "shared:$VMID/vm-$VMID-disk-0.raw");
my %LOCAL = (memory => 512, scsi0 => "local:$VMID/vm-$VMID-disk-0.raw");
my $ACTIVE = { status => 'active' };
my $COMPLETED = { status => 'completed' };

my @SCENARIOS = (
    { name => 'an idle VM', config => \%SHARED, answers => [$ACTIVE, $COMPLETED] },
    { name => 'an odd status on the way', config => \%SHARED,
        answers => [{ status => 'device' }, $COMPLETED] },
    { name => 'a local disk', config => \%LOCAL, answers => [$COMPLETED] },
    { name => 'a websocket', config => \%SHARED, answers => [$COMPLETED],
        options => { migration_type => 'websocket' } },
    { name => 'a migrate command that fails', config => \%SHARED, migrate_fails => 1,
        answers => [{ status => 'failed', 'error-desc' => 'it was not liked' }] },
    { name => 'a failed migration', config => \%LOCAL,
        answers => [{ status => 'failed', 'error-desc' => 'the other side is gone' }] },
    { name => 'a status that nobody knows', config => \%SHARED,
        answers => [{ status => 'pre-switchover' }] },
    { name => 'a monitor that stops answering', config => \%SHARED,
        answers => [map { sub { die "got timeout\n" } } 1 .. 5] },
    { name => 'a signal', config => \%SHARED,
        answers => [sub { kill('TERM', $$); select(undef, undef, undef, 1) }] },
    { name => 'mirrors that fail at the end', config => \%LOCAL, mirrors_fail => 1,
        answers => [$COMPLETED] },
    { name => 'a config that does not move', config => \%SHARED, move_fails => 1,
        answers => [$COMPLETED] },
    { name => 'a resume that fails', config => \%SHARED, resume_fails => 1, answers => [$COMPLETED] },
);

if (defined(my $module = $ARGV[0])) {
    $module =~ /\A([A-Za-z0-9_:]+)\z/ or die "'$module' is no module\n";
    eval "use $1; 1" or die $@;
}

for (@SCENARIOS) {
    $scenario = $_;
    push @transcript, '', "# $scenario->{name}";
    eval { PVE::QemuMigrate->migrate('beta', '192.0.2.3', $VMID, $scenario->{options}) };
    note_down('died', $@ =~ s/\n\z//r =~ s/after [0-9]+ s\b/after N s/r) if $@;
}
shift @transcript;
print map { "$_\n" } @transcript;

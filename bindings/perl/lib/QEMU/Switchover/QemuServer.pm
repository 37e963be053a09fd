package QEMU::Switchover::QemuServer;

use strict;
use warnings;

use Time::HiRes ();

=encoding utf8

=head1 NAME

QEMU::Switchover::QemuServer - the short switchover inside a qemu-server-style management stack

=head1 SYNOPSIS

    # /etc/perl/PVE/QemuMigrate.pm does this, once the stack's own module is loaded:
    require QEMU::Switchover::QemuServer;
    QEMU::Switchover::QemuServer->import(hand_over => 'before-resume');

=head1 DESCRIPTION

Takes over, by name and at run time, the part of a live migration in which the guest may stand: from the
stack's C<migrate> to the end of its mirrors. Everything else is the stack's own: it starts the target,
copies disks, opens its tunnel, moves the configuration, resumes the guest and ends the source.

=head2 What is replaced

C<mon_cmd> and C<usleep> in C<PVE::QemuMigrate>, the function that ends mirrors
(C<PVE::QemuServer::BlockJob::monitor>, or C<PVE::QemuServer::qemu_drive_mirror_monitor>),
C<< PVE::QemuConfig->move_config_to_node >>, the phases 2 and 3 of C<PVE::QemuMigrate>, and
C<PVE::Tunnel::write_tunnel> to see when the guest was resumed. Each of them does only what it always
did, but for the migration that this very process has in phase 2 or 3.

=head2 What happens

The stack's C<migrate> is caught: QEMU's events are subscribed to, the target's monitor is reached by
the stack's own ssh command with C<-L>, both sides are looked at, the target is disarmed, and only then
C<migrate> goes to QEMU. The stack's loop goes on, and is answered with QEMU's own reports. Once
the guest stands, QEMU's events drive it: the mirrors end in sync, the target proves that it has
loaded, its NBD server is stopped. Then the stack's phase 3 moves the configuration and resumes the
guest, as ever.

The stack's ramp of the downtime limit stays in force; its log lines and errors stay as they are. Lines
of this module begin with C<switchover:>; the last ones are the ledger.

=head2 What stays as it was

Where anything is missing or not as expected (no ssh connection, as with another cluster; a symbol of the
stack that is gone; a QEMU that is too old; a monitor that others hold for too long) the log has one
line with the reason, what was set is put back, and the original code runs. That is decided before
C<migrate> goes out; from then on this module brings the migration to an end by itself, with the
stack's own errors. A VM without a monitor socket is left to the stack without a word.

A signal that interrupts the stack before the guest stands cancels the migration. Later it waits,
for a minute at most, until QEMU has decided, and then brings the guest back to the source: it has never
been let run on the target.

=head1 SETTINGS

=over

=item hand_over

C<before-resume> (default): the configuration moves, then the stack resumes the guest. C<after-resume>:
the guest is let run at the moment the stack begins to move the configuration. Shorter by the time of
that move; but if the source's node dies in between, the cluster believes the guest to be there. Where
the move then fails, the source's QEMU is ended, and the log says where the guest runs.

=item journals

The folder for journals, which C<switchover recover> reads. Default: F</var/lib/switchover>.

=back

=cut

my %SETTINGS = (hand_over => 'before-resume', journals => '/var/lib/switchover');
my %PATTERN = (hand_over => qr/before-resume|after-resume/, journals => qr{/[A-Za-z0-9/._-]+});

# What lets the bridges of a node know a guest, by release of the stack.
my @FORWARDING = qw(
    PVE::QemuServer::Network::add_nets_bridge_fdb
    PVE::QemuServer::add_nets_bridge_fdb
);

# The migration of this process, while the stack has it in phase 2 or 3.
my $current;
my $is_installed = 0;

=head1 METHODS

=head2 import

Loads the stack's C<PVE::QemuMigrate> where that has not happened, and takes over inside it. A second
call only changes settings.

=cut

sub import {
    my ($class, %settings) = @_;
    for my $name (sort keys %settings) {
        my $pattern = $PATTERN{$name} // die "there is no setting '$name'\n";
        ($SETTINGS{$name}) = $settings{$name} =~ /\A($pattern)\z/
            or die "'$settings{$name}' is no value for '$name'\n";
    }
    return if $is_installed++;
    require PVE::QemuMigrate;
    require QEMU::Switchover::QemuServer::Run;
    _install();
    return;
}

# Every name that this needs, with what takes its place. A missing one leaves all to the stack.
sub _install {
    my ($mirrors) = grep { defined &$_ }
        qw(PVE::QemuServer::BlockJob::monitor PVE::QemuServer::qemu_drive_mirror_monitor);
    my %replacement = (
        'PVE::QemuMigrate::mon_cmd' => \&_mon_cmd,
        'PVE::QemuMigrate::usleep' => \&_usleep,
        ($mirrors // 'PVE::QemuServer::BlockJob::monitor') => \&_mirrors,
        'PVE::QemuConfig::move_config_to_node' => \&_move_config,
        'PVE::QemuMigrate::phase2' => \&_phase2,
        'PVE::QemuMigrate::phase3_cleanup' => \&_phase3_cleanup,
    );
    my %original = map { $_ => _code_of($_) } keys %replacement;
    my @missing = sort grep { !$original{$_} } keys %original;
    if (@missing) {
        $SETTINGS{unfit} = "this release of the stack has no '$missing[0]'";
        # The phase alone is enough to say so where it matters.
        %replacement = ('PVE::QemuMigrate::phase2' => \&_phase2_of_unfit);
        return if !$original{'PVE::QemuMigrate::phase2'};
    } elsif (defined(my $tunnel = _code_of('PVE::Tunnel::write_tunnel'))) {
        $replacement{'PVE::Tunnel::write_tunnel'} = \&_write_tunnel;
        $original{'PVE::Tunnel::write_tunnel'} = $tunnel;
    }
    for my $name (keys %replacement) {
        my ($ours, $original) = ($replacement{$name}, $original{$name});
        no strict 'refs';
        no warnings qw(redefine prototype);
        *$name = sub { return $ours->($original, @_) };
    }
    return;
}

# The code behind a name; a method may be inherited.
sub _code_of {
    my ($name) = @_;
    my ($package, $function) = $name =~ /\A(.+)::([^:]+)\z/;
    return $package->can($function);
}

# The migration that this process has, if it is about this VM.
sub _here {
    my ($vmid) = @_;
    return if !$current || $current->{process} != $$;
    return if defined $vmid && (ref $vmid || $vmid ne $current->{vmid});
    return $current;
}

sub _phase2 {
    my ($original, $stack, $vmid, @rest) = @_;
    $current->dispose() if _here();
    my $run = $current = QEMU::Switchover::QemuServer::Run->new($stack, $vmid, _settings());
    return if eval { $original->($stack, $vmid, @rest); 1 };
    my $error = $@;
    undef $current;
    eval { $run->settle() };
    $run->dispose();
    die $error;
}

sub _phase2_of_unfit {
    my ($original, $stack, @rest) = @_;
    $stack->log('warn', "switchover: stepping aside, the migration goes on without it: $SETTINGS{unfit}");
    return $original->($stack, @rest);
}

# The settings for one migration: what is asked for, as far as this stack has what it needs.
sub _settings {
    my %settings = %SETTINGS;
    ($settings{forwarding}) = grep { _code_of($_) } @FORWARDING;
    return \%settings;
}

sub _phase3_cleanup {
    my ($original, $stack, @rest) = @_;
    my $run = _here();
    return $original->($stack, @rest) if !$run || $run->{stack} != $stack;
    $run->{phase} = 3;
    my $ended = eval { $original->($stack, @rest); 1 };
    my $error = $@;
    undef $current;
    eval { $run->conclude() };
    $run->dispose();
    die $error if !$ended;
    return;
}

sub _mon_cmd {
    my ($original, $vmid, $command, %arguments) = @_;
    my $run = _here($vmid) // return $original->($vmid, $command, %arguments);
    my $state = $run->state();
    if ($state eq 'idle') {
        return {} if $command eq 'migrate' && $run->{phase} == 2 && $run->take_over(\%arguments);
    } elsif ($state eq 'granted') {
        die "refused: the guest runs on the other node\n" if $command =~ /\A(?:cont|migrate_cancel)\z/;
    } elsif ($state eq 'running' || $command eq 'query-migrate') {
        return $run->answer($command, \%arguments);
    }
    return $original->($vmid, $command, %arguments);
}

sub _usleep {
    my ($original, $microseconds) = @_;
    my $run = _here();
    return $original->($microseconds) if !$run || $run->{phase} != 2;
    $run->deliver_signals();
    return $original->($microseconds) if $run->state() eq 'idle';
    $run->wait_for_news($microseconds / 1_000_000);
    return $microseconds;
}

sub _mirrors {
    my ($original, @arguments) = @_;
    my (undef, undef, $jobs, $completion) = @arguments;
    my $run = _here();
    if ($run && $run->{phase} == 2 && ($completion // '') eq 'cancel' && $run->mirrors_have_ended($jobs)) {
        %$jobs = ();
        $run->{stack}{stopnbd} = 0;
        return;
    }
    return $original->(@arguments);
}

sub _move_config {
    my ($original, $class, $vmid, @rest) = @_;
    my $run = _here($vmid);
    return $original->($class, $vmid, @rest) if !$run || $run->{phase} != 3;
    my $is_granted = eval { $run->grant() };
    my $begin = Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC());
    my $moved = eval { $original->($class, $vmid, @rest); 1 };
    my $error = $@;
    if ($moved) {
        $run->moved(Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) - $begin);
    } else {
        $run->move_failed($error);
    }
    $run->add_forwarding_entries() if $is_granted;
    die $error if !$moved;
    return;
}

sub _write_tunnel {
    my ($original, @arguments) = @_;
    my $run = _here();
    my @answer = $original->(@arguments);
    $run->resumed() if $run && $run->{phase} == 3 && grep { $_ eq "resume $run->{vmid}" } @arguments;
    return wantarray ? @answer : $answer[0];
}

1;

__END__

=head1 SEE ALSO

L<QEMU::Switchover>, switchover(1)

=cut

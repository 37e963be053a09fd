# Stands before the stack's own PVE::QemuMigrate in @INC (as /etc/perl/PVE/QemuMigrate.pm), loads that
# one, and lets QEMU::Switchover::QemuServer take over inside it. So no file of the stack is changed or
# diverted, and an upgrade of the stack needs nothing from us.
#
# /etc/default/switchover has the switch; daemons of the stack see a change when they are reloaded.
package QEMU::Switchover::QemuServer::Loader;

use strict;
use warnings;

my $SETTINGS_FILE = '/etc/default/switchover';
my %NAME_OF_SETTING = (
    QEMU_SERVER_HAND_OVER => 'hand_over',
    QEMU_SERVER_JOURNALS => 'journals',
);

# The lines KEY=VALUE of the settings file; quotes around a value are taken off.
sub settings {
    open(my $file, '<', $SETTINGS_FILE) or return {};
    my %settings;
    while (my $line = <$file>) {
        $line =~ /\A\s*([A-Z_]+)=(["']?)([A-Za-z0-9\/._-]*)\2\s*\n?\z/ or next;
        $settings{$1} = $3;
    }
    return \%settings;
}

# Loads the next PVE/QemuMigrate.pm of @INC. Where there is none, or it does not compile, its own error
# goes on to whoever wanted it.
sub load_original {
    my ($requirer, $line) = @_;
    my $ours = __FILE__;
    my $folder = $ours =~ s{/PVE/QemuMigrate\.pm\z}{}r;
    local @INC = grep { ref || $_ ne $folder } @INC;
    delete $INC{'PVE/QemuMigrate.pm'};
    return if eval { require PVE::QemuMigrate; 1 };
    my $error = $@;
    $error =~ s/Compilation failed in require at \Q$ours\E line \d+\.\n\z//;
    $error =~ s/ at \Q$ours\E line \d+\./ at $requirer line $line./g;
    die $error;
}

sub take_over {
    my $settings = settings();
    return if ($settings->{QEMU_SERVER} // 'yes') ne 'yes';
    my %options = map { exists $settings->{$_} ? ($NAME_OF_SETTING{$_} => $settings->{$_}) : () }
        keys %NAME_OF_SETTING;
    return if eval {
        require QEMU::Switchover::QemuServer;
        QEMU::Switchover::QemuServer->import(%options);
        1;
    };
    warn "switchover: migrations go on as the stack does them by itself: $@";
    return;
}

load_original((caller(0))[1, 2]);
take_over();

1;

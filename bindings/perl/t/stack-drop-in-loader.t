# The drop-in as it is installed: a file in /etc/perl that stands before the stack's own.
use strict;
use warnings;

use File::Path ();
use File::Temp ();
use FindBin;
use Test::More;

use lib "$FindBin::Bin/lib", "$FindBin::Bin/stack/lib";
use SwitchoverTest::Cluster;
use SwitchoverTest::StackChecks;

my $LOADER = "$FindBin::Bin/../drop-in";

# What a tainted perl says that wants the stack's class, with these folders in @INC; the loader's first.
sub words_of {
    my ($with_loader, $code, @folders) = @_;
    my @include = map { ('-I', $_) } ($with_loader ? $LOADER : ()), @folders;
    open(my $output, '-|', 'sh', '-c', 'exec 2>&1; exec "$@"', 'sh', $^X, '-T', @include, '-e', $code)
        or die "can't run perl: $!\n";
    local $/;
    my $text = <$output> // '';
    close($output);
    $text =~ s/\(\@INC contains: [^)]*\)/(\@INC)/g;
    # Perl's own words about the one who wanted it.
    $text =~ s/^Compilation failed in require.*\n//mg;
    return $text;
}

my $PROGRAM = "use PVE::QemuMigrate;\nprint \$INC{'PVE/QemuMigrate.pm'};";

subtest 'an original that is not there, or does not compile' => sub {
    my $folder = File::Temp->newdir();
    is(words_of(1, $PROGRAM, $folder), words_of(0, $PROGRAM, $folder), 'its absence is told as ever');
    File::Path::make_path("$folder/PVE");
    for my $text ("package PVE::QemuMigrate;\nuse strict;\n\$undeclared = 1;\n1;\n",
        "package PVE::QemuMigrate;\ndie \"not today\\n\";\n", "package PVE::QemuMigrate;\n0;\n")
    {
        open(my $file, '>', "$folder/PVE/QemuMigrate.pm") or die "can't write: $!\n";
        print {$file} $text;
        close($file);
        is(words_of(1, $PROGRAM, $folder), words_of(0, $PROGRAM, $folder), 'its own error is unaltered');
    }
};

subtest 'the original is the one that counts' => sub {
    my $stack = "$FindBin::Bin/stack/lib";
    my @module = grep { !ref } @INC;
    is(words_of(1, $PROGRAM, $stack, @module), "$stack/PVE/QemuMigrate.pm", 'it is what is loaded');
    is(words_of(1, "$PROGRAM print defined &QEMU::Switchover::QemuServer::import", $stack, @module),
        "$stack/PVE/QemuMigrate.pm1", 'and the drop-in with it');
    like(words_of(1, $PROGRAM, $stack),
        qr/\Aswitchover: migrations go on as the stack does them by itself: .*PVE\/QemuMigrate\.pm\z/s,
        'without the drop-in the stack works by itself');
};

if (my $reason = SwitchoverTest::Cluster::unavailable()) {
    done_testing();
    exit(0);
}

my $vmid = 100;

# One migration, with these settings in /etc/default/switchover; its log.
sub log_with {
    my ($settings) = @_;
    my $cluster = SwitchoverTest::Cluster->new(loader => $settings);
    $cluster->start_vm($vmid);
    my $task = $cluster->wait_for($cluster->start_migration($vmid));
    my $log = SwitchoverTest::Cluster::log_of($task);
    is($task->{exit}, 0, 'the task succeeds') or diag($log);
    guest_moved($cluster, $vmid);
    return ($log, $cluster);
}

subtest 'the settings as they are shipped' => sub {
    open(my $file, '<', "$LOADER/switchover.default") or die "can't read the settings: $!\n";
    my ($log, $cluster) = log_with(join('', <$file>));
    like($log, qr/switchover: vm $vmid: completed/, 'the drop-in does the migration');
    ok(-s $cluster->folder() . "/alpha/lib/switchover/vm_$vmid.journal", 'with a journal');
};

subtest 'other settings' => sub {
    my ($log, $cluster) = log_with("# a comment\nQEMU_SERVER_JOURNALS='/run/journals'\n");
    ok(-s $cluster->path('alpha', "journals/vm_$vmid.journal"), 'are heeded');
};

subtest 'switched off' => sub {
    my ($log) = log_with("QEMU_SERVER=no\n");
    unlike($log, qr/switchover/, 'nothing of it is to be seen');
};

done_testing();

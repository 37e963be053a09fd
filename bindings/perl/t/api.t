# What the header offers, what the glue binds, what the documentation says: one list.
use strict;
use warnings;

use FindBin;
use Pod::Checker ();
use Test::More;

use QEMU::Switchover;
use QEMU::Switchover::Migration;
use QEMU::Switchover::QMP;
use QEMU::Switchover::QemuServer::Run;

my ($DISTRIBUTION) = $FindBin::Bin =~ m!\A(.+)/t\z!s;

# Functions that Perl does without, and what it has instead.
my %WITHOUT = (
    (map { ("swo_event_$_" => 'the hash of an event') }
        qw(kind_of migration qmp phase text name json code command_id time_us free)),
    swo_loop_free => 'DESTROY', swo_migration_free => 'DESTROY', swo_qmp_free => 'DESTROY',
    (map { ("swo_${_}_name" => 'words made from the constants') }
        qw(code owner guest phase end failure)),
    swo_version => 'swo_version_string',
    swo_qmp_connect => 'swo_qmp_open, with signals between the waits',
    swo_qmp_execute => 'swo_qmp_submit, with signals between the waits',
);
# Recovery is the operator's: switchover recover.
my $RECOVERY = qr/\Aswo_(?:recovery_|journal_|event_recovery\z)/;

sub text_of {
    my ($path) = @_;
    open(my $file, '<', $path) or die "can't read '$path': $!\n";
    local $/;
    return scalar <$file>;
}

my $header = text_of("$DISTRIBUTION/../../include/switchover.h") =~ s{/\*.*?\*/}{}gsr;
my $glue = text_of("$DISTRIBUTION/Switchover.xs") =~ s{/\*.*?\*/}{}gsr;

my @declared = $header =~ /^\w[\w *]*?\b(swo_\w+)\(/mg;
cmp_ok(scalar @declared, '>', 70, 'the header declares functions');
for my $function (sort @declared) {
    my $is_bound = $glue =~ /\b$function\(/;
    ok($is_bound || $WITHOUT{$function} || $function =~ $RECOVERY, "$function is bound, or there is something instead");
}
ok($header =~ /\b$_\(/, "$_ is in the header") for sort keys %WITHOUT;

my %constants = $header =~ /\bSWO_(\w+) = (-?\d+)/g;
delete @constants{ grep { /\ARECOVERY_/ } keys %constants };
is_deeply(QEMU::Switchover::C::constants(), \%constants, 'every constant has its value');

is(QEMU::Switchover::library_version(), QEMU::Switchover->VERSION,
    'library and module have one version');

# Each method that is offered has its heading, and each heading its method.
for my $module (qw(QEMU::Switchover QEMU::Switchover::Migration QEMU::Switchover::QMP
    QEMU::Switchover::Error QEMU::Switchover::JSON QEMU::Switchover::QemuServer::Run
    QEMU::Switchover::QemuServer::Forward))
{
    my $path = $INC{ ($module =~ s!::!/!gr) . '.pm' };
    my $text = text_of($path);
    my %documented = map { $_ => 1 } $text =~ /^=head2 (\w+)$/mg;
    delete $documented{Words};
    my %code = map { $_ => 1 } $text =~ /^sub ([a-z]\w*)/mg;
    if (my ($fields) = $text =~ /^my \@FIELDS = qw\(([^)]*)\)/m) {
        $code{$_} = 1 for split ' ', $fields;
        delete $code{new};
    }
    delete @documented{qw(Signals Forks Taint)};
    is_deeply([sort keys %documented], [sort keys %code], "$module: code and headings agree");
    my $checker = Pod::Checker->new(-quiet => 1);
    open(my $nowhere, '>', \my $ignored);
    $checker->parse_from_file($path, $nowhere);
    is($checker->num_errors(), 0, "$module: its POD has no error");
}

# Each option is named in the documentation of migrations, and each of those is an option.
my $text = text_of($INC{'QEMU/Switchover/Migration.pm'});
my ($options) = $text =~ /^=head1 OPTIONS\n(.*?)^=head1 METHODS/ms;
my @named = map { split /, / } $options =~ /^=item (.+)$/mg;
my $loop = QEMU::Switchover->new();
for my $name (@named) {
    eval { $loop->migration($name => undef) };
    unlike($@, qr/there is no option/, "'$name' is an option");
}
my %named = map { $_ => 1 } @named;
my @known = $text =~ /^    (\w+) => \\&/mg;
push @known, $text =~ /\b(\w+_ms) => \d/g;
push @known, map { split ' ' } $text =~ /^my \@OTHER_OPTIONS = qw\(([^)]*)\)/m;
ok($named{$_}, "the option '$_' is documented") for sort @known;

done_testing();

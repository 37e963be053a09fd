# A guest in one sector. At each tick of the timer, normally a thousand times a second, it writes an
# eight-digit counter and a newline to the first serial port, and between the ticks fills as many
# pages of memory as it is told to.
#
# It runs in real mode with a 4 GiB data segment. The timer interrupt (vector 8) prints; the main
# loop halts until the next tick, then walks through the memory above 2 MiB. What it counts lies at
# 0x600, in a page without code, as an emulator must translate code anew after each write to its
# page.
#
# Each tick switches the processor's write protection on or off. That means nothing in real mode,
# but it makes the emulator forget its address translations: before 9.0 QEMU's own emulation does
# not mark a page dirty again, after a pass of the migration, while its translation is still in use,
# and the target goes on from an old copy of the page. With hardware virtualisation nothing of the
# sort happens.
package SwitchoverTest::Guest;

use strict;
use warnings;

my $DEFAULT_TICKS_PER_SECOND = 1_000;
my $TIMER_HERTZ = 1_193_182;
my $PAGE_BYTES = 4096;
my $FIRST_DIRTIED_BYTE = 2 * 1024 ** 2;

my $CODE = pack('H*', join '', map { s/;.*//r =~ s/\s+//gr } split /\n/, <<'MACHINE_CODE');
fa              ; 7c00 cli
31c0            ;      xor ax, ax
8ed8 8ec0 8ed0  ;      mov ds, ax; mov es, ax; mov ss, ax
bc0070          ;      mov sp, 0x7000
ea117c0000      ;      jmp 0:0x7c11
e492 0c02 e692  ; 7c11 in al, 0x92; or al, 2; out 0x92, al     address line 20
0f0116e87c      ;      lgdt [0x7ce8]
0f20c0 0c01     ;      mov eax, cr0; or al, 1
0f22c0 eb00     ;      mov cr0, eax; jmp +0
bb0800 8ec3     ;      mov bx, 8; mov es, bx                   the flat segment
24fe 0f22c0     ;      and al, 0xfe; mov cr0, eax
66c7060006 00000000 ;  mov dword [0x600], 0                    the counter
c7062000 887c   ;      mov word [0x20], 0x7c88                 interrupt vector 8
c7062200 0000   ;      mov word [0x22], 0
b034 e643       ;      mov al, 0x34; out 0x43, al              timer 0: rate generator
a1f87d          ;      mov ax, [0x7df8]
e640 88e0 e640  ;      out 0x40, al; mov al, ah; out 0x40, al
b0fe e621       ;      mov al, 0xfe; out 0x21, al              only the timer interrupts
668b3eec7d      ;      mov edi, [0x7dec]
fb              ;      sti
f4              ; 7c5c hlt
668b16f47d      ;      mov edx, [0x7df4]
6685d2 74f5     ;      test edx, edx; jz 0x7c5c
66a10006        ;      mov eax, [0x600]
66b900040000 fc ; 7c6b mov ecx, 1024; cld
6766f3ab        ;      rep stosd                               a whole page of the counter
663b3ef07d      ;      cmp edi, [0x7df0]
7205            ;      jb 0x7c82
668b3eec7d      ;      mov edi, [0x7dec]
664a 75e5       ; 7c82 dec edx; jnz 0x7c6b
ebd4            ;      jmp 0x7c5c
6660            ; 7c88 pushad                                  the tick
0f20c0          ;      mov eax, cr0
663500000100    ;      xor eax, 0x10000                        write protection, on or off
0f22c0          ;      mov cr0, eax
66ff060006      ;      inc dword [0x600]
668b1e0006      ;      mov ebx, [0x600]
be0800          ;      mov si, 8
66c1c304        ; 7ca3 rol ebx, 4
88d8 240f 0430  ;      mov al, bl; and al, 15; add al, '0'
3c39 7602 0427  ;      cmp al, '9'; jbe +2; add al, 39
e80f00          ;      call 0x7cc5
4e 75ea         ;      dec si; jnz 0x7ca3
b00a e80700     ;      mov al, 10; call 0x7cc5
b020 e620       ;      mov al, 0x20; out 0x20, al              end of interrupt
6661 cf         ;      popad; iret
88c4            ; 7cc5 mov ah, al
bafd03          ;      mov dx, 0x3fd
ec a820 74fb    ; 7cca in al, dx; test al, 0x20; jz 0x7cca
baf803 88e0 ee  ;      mov dx, 0x3f8; mov al, ah; out dx, al
c3 0000         ;      ret
0000000000000000 ; 7cd8 descriptors: none, flat data
ffff00000092cf00
0f00 d87c0000   ; 7ce8 their limit and address
MACHINE_CODE

# The boot sector of a guest. Options: ticks_per_second, 19 or more (default 1000);
# dirty_pages_per_tick, pages written after each tick (default 0); dirty_bytes, the memory that they
# walk through (default 32 MiB). Others are not looked at.
sub boot_sector {
    my (%options) = @_;
    my $limit = $FIRST_DIRTIED_BYTE + ($options{dirty_bytes} // 32 * 1024 ** 2);
    die "the memory to dirty must be whole pages\n" if $limit % $PAGE_BYTES;
    my $parameters = pack('V V V v',
        $FIRST_DIRTIED_BYTE, $limit, $options{dirty_pages_per_tick} // 0,
        int($TIMER_HERTZ / ($options{ticks_per_second} // $DEFAULT_TICKS_PER_SECOND)));
    my $sector = $CODE;
    $sector .= "\0" x (0x1ec - length $sector) . $parameters;
    return $sector . "\0" x (510 - length $sector) . "\x55\xaa";
}

sub write_boot_image {
    my ($path, %options) = @_;
    open(my $file, '>:raw', $path) or die "can't write '$path': $!\n";
    print {$file} boot_sector(%options) or die "can't write '$path': $!\n";
    close($file) or die "can't write '$path': $!\n";
    return;
}

1;

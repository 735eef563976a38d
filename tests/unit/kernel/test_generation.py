"""What says that this virtual machine was cloned or set back: uevents, interrupts."""

import os

import pytest

from ropeway.kernel.generation import Interrupts, is_new_generation

#: As `drivers/virt/vmgenid.c` has the kernel send it.
CLONED = (
    b"change@/devices/LNXSYSTM:00/LNXSYBUS:00/QEMUVGID:00\0ACTION=change\0"
    b"DEVPATH=/devices/LNXSYSTM:00/LNXSYBUS:00/QEMUVGID:00\0SUBSYSTEM=acpi\0"
    b"NEW_VMGENID=1\0MODALIAS=acpi:QEMUVGID:VM_GEN_COUNTER:\0SEQNUM=2000\0"
)


def test_a_new_vm_generation_is_known():
    assert is_new_generation(CLONED)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0" * 100,
        b"\xff" * 4096,
        CLONED.replace(b"change@", b"add@"),
        CLONED.replace(b"NEW_VMGENID=1", b"SYNTH_ARG_NEW_VMGENID=1"),
        CLONED.replace(b"NEW_VMGENID=1", b"NEW_VMGENID=10"),
        CLONED.replace(b"NEW_VMGENID=1", b"DRIVER=vmgenid"),
        b"libudev\0" + CLONED,
    ],
)
def test_anything_else_is_not(message):
    assert not is_new_generation(message)


def machine(tmp_path, devices, interrupts):
    """Lay out what /sys tells of a machine."""
    for name, modalias in devices.items():
        (tmp_path / "bus/acpi/devices" / name).mkdir(parents=True)
        (tmp_path / "bus/acpi/devices" / name / "modalias").write_text(modalias + "\n")
    for number, (actions, counts) in interrupts.items():
        (tmp_path / "kernel/irq" / number).mkdir(parents=True)
        (tmp_path / "kernel/irq" / number / "actions").write_text(actions + "\n")
        (tmp_path / "kernel/irq" / number / "per_cpu_count").write_text(counts + "\n")
    return Interrupts(str(tmp_path))


#: As Firecracker and QEMU name the device, and as the kernel names what they interrupt by.
GENERATIONS = ["acpi:VMGENCTR:VM_GEN_COUNTER:", "acpi:QEMUVGID:VM_Gen_Counter:"]
BUSY = {"9": ("acpi", "3,4"), "24": ("ACPI:Ged", "0,1"), "25": ("ttyS0", "500,9"), "26": ("", "7")}


@pytest.mark.parametrize("modalias", GENERATIONS)
def test_interrupts_of_a_hypervisor_are_counted(tmp_path, modalias):
    interrupts = machine(tmp_path, {"PNP0501:00": "acpi:PNP0501:", "X:00": modalias}, BUSY)
    assert interrupts.count() == 8
    (tmp_path / "kernel/irq/24/per_cpu_count").write_text("1,1\n")
    assert interrupts.count() == 9
    (tmp_path / "kernel/irq/24/per_cpu_count").write_text("")
    assert interrupts.count() == 7, "one whose driver is gone counts no more"
    interrupts.close()
    assert interrupts.count() == 0


def test_counting_opens_no_file(tmp_path, monkeypatch):
    interrupts = machine(tmp_path, {"X:00": GENERATIONS[0]}, BUSY)
    monkeypatch.setattr(os, "open", None)
    assert interrupts.count() == 8
    monkeypatch.undo()
    interrupts.close()


def test_a_machine_without_acpi_has_an_interrupt_for_this_alone(tmp_path):
    (tmp_path / "bus/platform/drivers/vmgenid/83f00000.vmgenid").mkdir(parents=True)
    assert machine(tmp_path, {}, {"40": ("vmgenid", "2,0"), "41": ("uart", "9,9")}).count() == 2


def test_interrupts_of_a_machine_without_generations_do_not_count(tmp_path):
    """A laptop has many, of its battery and its lid."""
    assert machine(tmp_path, {"PNP0C0A:00": "acpi:PNP0C0A:"}, BUSY).count() == 0
    assert Interrupts(str(tmp_path / "none")).count() == 0

"""How other programs name the factors of an adapter."""


def kohya(owner):
    return "lora_unet_" + owner.replace(".", "_")


SPELLINGS = {
    "PEFT": lambda owner: (
        f"base_model.model.{owner}.lora_A.weight",
        f"base_model.model.{owner}.lora_B.weight",
    ),
    "PEFT, named": lambda owner: (
        f"base_model.model.{owner}.lora_A.default.weight",
        f"base_model.model.{owner}.lora_B.default.weight",
    ),
    "diffusers": lambda owner: (
        f"transformer.{owner}.lora_A.weight",
        f"transformer.{owner}.lora_B.weight",
    ),
    "diffusers, old": lambda owner: (f"{owner}.lora.down.weight", f"{owner}.lora.up.weight"),
    "ComfyUI": lambda owner: (
        f"diffusion_model.{owner}.lora_down.weight",
        f"diffusion_model.{owner}.lora_up.weight",
    ),
    "kohya": lambda owner: (
        f"{kohya(owner)}.lora_down.weight",
        f"{kohya(owner)}.lora_up.weight",
    ),
}


def respelled(state, spelling):
    owners = sorted({name.rsplit(".lora_", 1)[0] for name in state})
    return {
        foreign: state[f"{owner}.lora_{side}.weight"]
        for owner in owners
        for foreign, side in zip(SPELLINGS[spelling](owner), ("down", "up"), strict=True)
    }
